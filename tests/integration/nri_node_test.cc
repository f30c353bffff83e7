// What NRI plugins give a container of the node's: mounts, CDI devices; and those that only judge.
#include "nri_fixture.h"
#include "shared_folder.h"

namespace berth::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class NriNodeTest : public NriHostTest<WithNri> {
 protected:
  static void add_mount(CreateReply& reply, const std::string& place, const std::string& source,
                        const std::vector<std::string>& options) {
    auto& mount = *reply.mutable_adjust()->add_mounts();
    mount.set_destination(place);
    mount.set_source(source);
    mount.set_type("bind");
    for (const auto& option : options) mount.add_options(option);
  }
  void TearDown() override {
    NriHostTest<WithNri>::TearDown();
    must(os::remove_tree(nri_dir() + "/cdi"));
  }
};

TEST_F(NriNodeTest, OneThatOnlyJudgesIsAsked) {
  NriPlugin judge({.index = "90", .name = "judge", .events = 1 << (nri_api::VALIDATE_CONTAINER_ADJUSTMENT - 1)});
  judge.on<nri_api::ValidateContainerAdjustmentRequest, nri_api::ValidateContainerAdjustmentResponse>(
      "ValidateContainerAdjustment", [](const auto&) -> Result<nri_api::ValidateContainerAdjustmentResponse> {
        nri_api::ValidateContainerAdjustmentResponse reply;
        reply.set_reject(true);
        reply.set_reason("never");
        return reply;
      });
  ASSERT_TRUE(ok(judge.start(nri_socket())));
  EXPECT_TRUE(fails(try_create("judged"), Code::kDenied, "NRI plugin 90-judge: ValidateContainerAdjustment: never"));
  EXPECT_THAT(must(cri().containers()), IsEmpty());
}

TEST_F(NriNodeTest, MountsOfTheHostComeIntoMountsOfPlugins) {
  const SharedFolder shared(host().dir() + "/in", MS_SHARED);
  ASSERT_TRUE(shared.made());
  must(os::make_dirs(nri_dir() + "/cdi"));
  must(os::write_file_atomic(nri_dir() + "/cdi/x.json",
                             R"({"cdiVersion": "0.5.0", "kind": "vendor.com/vol", "devices": [{"name": "0",
                             "containerEdits": {"mounts": [{"hostPath": ")" +
                                 shared.path() +
                                 R"(", "containerPath": "/cdi", "options": ["rbind", "rslave"]}]}}]})"));
  NriPlugin plugin;
  plugin.on_create([&shared](const CreateRequest&) -> Result<CreateReply> {
    CreateReply reply;
    add_mount(reply, "/follows/", shared.path(), {"rbind", "rslave"});
    add_mount(reply, "//apart", shared.path(), {"rbind", "rprivate"});
    reply.mutable_adjust()->add_cdi_devices()->set_name("vendor.com/vol=0");
    return reply;
  });
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto config = host().pod_config("mounts");
  const auto pod = must(cri().run_pod(config));
  const auto id = sleeper(pod, config);
  ASSERT_TRUE(shared.mount_below("later"));
  EXPECT_EQ(must(cri().shell(id, "cat /follows/later/mark; echo; cat /cdi/later/mark; echo; ls /apart/later")),
            "later\nlater\n");
  EXPECT_TRUE(shared.unmount_below("later"));
}

TEST_F(NriNodeTest, WhatTheDaemonTellsItsShimIsNotForPlugins) {
  CreateRequest seen;
  std::string option = "rslave";
  NriPlugin plugin({.index = "42", .name = "odd"});
  plugin.on_create([&](const CreateRequest& request) -> Result<CreateReply> {
    seen = request;
    CreateReply reply;
    add_mount(reply, "/x", "/etc", {"bind", option});
    return reply;
  });
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto with_volume = [](pb::ContainerConfig& config) {
    auto& mount = *config.add_mounts();
    mount.set_container_path("/img");
    mount.mutable_image()->set_image(TestHost::image("busybox"));
  };
  EXPECT_TRUE(ok(try_create("view", with_volume)));
  EXPECT_THAT(seen.SerializeAsString(), HasSubstr("/img"));
  EXPECT_THAT(seen.SerializeAsString(), Not(HasSubstr("X-berth")));
  option = "X-berth.image";
  EXPECT_TRUE(fails(try_create("own"), Code::kInvalid, "42-odd: mount /x: option \"X-berth.image\""));
}

TEST_F(NriNodeTest, ACdiDeviceIsAddedOnce) {
  must(os::make_dirs(nri_dir() + "/cdi"));
  const auto hook = [](const std::string& file) {
    return R"("hooks": [{"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", "echo x >> )" +
           nri_dir() + "/" + file + R"("]}])";
  };
  must(os::write_file_atomic(
      nri_dir() + "/cdi/x.json",
      R"({"cdiVersion": "0.5.0", "kind": "vendor.com/gpu", "containerEdits": {)" + hook("of-file") +
          R"(}, "devices": [{"name": "0", "containerEdits": {"env": ["FROM_CDI=yes"], "deviceNodes": [{"path": "/dev/gpu",
          "hostPath": "/dev/null"}], )" +
          hook("of-device") + R"(}}, {"name": "1", "containerEdits": {"env": ["SECOND=too"]}}]})"));
  NriPlugin plugin;
  plugin.on_create([](const CreateRequest&) -> Result<CreateReply> {
    CreateReply reply;
    for (const char* name : {"vendor.com/gpu=0", "vendor.com/gpu=1", "vendor.com/gpu=0"}) {
      reply.mutable_adjust()->add_cdi_devices()->set_name(name);
    }
    return reply;
  });
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  const auto config = host().pod_config("cdi");
  const auto pod = must(cri().run_pod(config));
  const std::string look = "echo $FROM_CDI $SECOND; test -c /dev/gpu && echo there";
  EXPECT_EQ(must(cri().shell(sleeper(pod, config), look)), "yes too\nthere\n");
  EXPECT_EQ(must(os::read_file(nri_dir() + "/of-file", 64)), "x\n");
  EXPECT_EQ(must(os::read_file(nri_dir() + "/of-device", 64)), "x\n");
  // One that the request has, too.
  auto container = host().shell_config("asks", "exec sleep 1000");
  container.add_cdi_devices()->set_name("vendor.com/gpu=0");
  EXPECT_EQ(must(cri().shell(must(cri().run(pod, container, config)), look)), "yes too\nthere\n");
  EXPECT_EQ(must(os::read_file(nri_dir() + "/of-file", 64)), "x\nx\n");
  EXPECT_EQ(must(os::read_file(nri_dir() + "/of-device", 64)), "x\nx\n");
}

TEST_F(NriNodeTest, CdiDevicesOfPluginsAreBounded) {
  NriPlugin plugin({.index = "42", .name = "many"});
  bool well_named = false;
  plugin.on_create([&](const CreateRequest&) -> Result<CreateReply> {
    CreateReply reply;
    if (!well_named) reply.mutable_adjust()->add_cdi_devices()->set_name("gpu");
    for (int i = 0; i < 4097; ++i) {
      reply.mutable_adjust()->add_cdi_devices()->set_name("vendor.com/gpu=" + std::to_string(i));
    }
    return reply;
  });
  ASSERT_TRUE(ok(plugin.start(nri_socket())));
  EXPECT_TRUE(fails(try_create("name"), Code::kInvalid, "42-many: CDI device gpu"));
  well_named = true;
  EXPECT_TRUE(fails(try_create("many"), Code::kInvalid, "42-many: CDI device vendor.com/gpu=4096: more than 4096"));
}

}  // namespace
}  // namespace berth::test
