// Devices of the Container Device Interface, asked for through the CRI.
#include <algorithm>

#include "fixture.h"
#include "os/file.h"

namespace berth::test {
namespace {

struct WithCdi {
  static TestHostOptions options() { return {.config = "[runtime]\ncdi_dirs = [\"@DIR@/cdi\", \"@DIR@/cdi-run\"]\n"}; }
};

class CdiTest : public HostTest<WithCdi> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    for (const auto* dir : {"cdi", "cdi-run"}) {
      ASSERT_TRUE(ok(os::remove_tree(host().dir() + "/" + dir)));
      ASSERT_TRUE(ok(os::make_dirs(host().dir() + "/" + dir)));
    }
    config_ = host().pod_config("pod");
    pod_ = must(cri().run_pod(config_));
  }
  static void write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(ok(os::write_file_atomic(host().dir() + "/" + name, text)));
  }
  static pb::ContainerConfig with_device(const std::string& name, const std::string& device) {
    auto config = host().shell_config(name, "exec sleep 1000");
    config.add_cdi_devices()->set_name(device);
    return config;
  }
  std::string run(const pb::ContainerConfig& config) { return must(cri().run(pod_, config, config_)); }

  pb::PodSandboxConfig config_;
  std::string pod_;
};

TEST_F(CdiTest, EverythingThatADeviceBrings) {
  const std::string lib = host().dir() + "/vendor";
  ASSERT_TRUE(ok(os::make_dirs(lib)));
  ASSERT_TRUE(ok(os::write_file_atomic(lib + "/lib.so", "a driver\n")));
  const std::string ran = host().dir() + "/hook-ran";
  // As vendors' hooks do: by the bundle of the state, in the container's mount namespace.
  write("hook.sh", R"sh(b=$(sed 's/.*"bundle":"\([^"]*\)".*/\1/') && echo hooked > "$b/rootfs/etc/from-hook")sh");
  write("cdi/vendor.json", R"({"cdiVersion": "0.7.0", "kind": "vendor.com/gpu",
    "containerEdits": {"env": ["DRIVER=1.2"], "mounts": [{"hostPath": ")" +
                               lib +
                               R"(", "containerPath": "/usr/lib/vendor", "options": ["ro", "nosuid", "rbind"]}],
      "hooks": [{"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", "cat > )" +
                               ran + R"("]}]},
    "devices": [{"name": "0", "containerEdits": {"env": ["GPU=0"], "additionalGids": [4711],
      "hooks": [{"hookName": "createContainer", "path": "/bin/sh", "args": ["sh", ")" +
                               host().dir() + R"(/hook.sh"]}],
      "deviceNodes": [{"path": "/dev/vendor/gpu0", "hostPath": "/dev/zero", "permissions": "r"}]}},
      {"name": "1", "containerEdits": {"deviceNodes": [{"path": "/dev/never"}]}}]})");
  const auto id = run(with_device("main", "vendor.com/gpu=0"));
  EXPECT_EQ(must(cri().shell(id, "echo $DRIVER $GPU; cat /usr/lib/vendor/lib.so; head -c 3 /dev/vendor/gpu0 | wc -c")),
            "1.2 0\na driver\n3\n");
  EXPECT_EQ(must(cri().shell(id, "cat /etc/from-hook")), "hooked\n");
  EXPECT_NE(must(cri().shell(id, "id -G")).find("4711"), std::string::npos);
  EXPECT_EQ(must(cri().shell(id, "stat -c %t:%T:%F /dev/vendor/gpu0")), "1:5:character special file\n");
  EXPECT_TRUE(fails(cri().shell(id, "echo x > /usr/lib/vendor/lib.so"), Code::kInternal, "Read-only"));
  EXPECT_NE(os::read_file(ran, 65536).value_or("").find("\"id\":\"" + id), std::string::npos);
  // Without it nothing of this is there.
  const auto plain = run(host().shell_config("plain", "exec sleep 1000"));
  EXPECT_EQ(must(cri().shell(plain, "echo $DRIVER; ls /usr/lib/vendor /dev/vendor 2>/dev/null | wc -l")), "\n0\n");
}

TEST_F(CdiTest, YamlAnnotationsAndTheLaterFolder) {
  write("cdi/a.yaml",
        "cdiVersion: 0.5.0\nkind: vendor.com/net\ndevices:\n- name: eth\n"
        "  containerEdits: {env: [FROM=etc]}\n- name: other\n  containerEdits: {env: [OTHER=yes]}\n");
  write(
      "cdi-run/b.json",
      R"({"cdiVersion":"0.5.0","kind":"vendor.com/net","devices":[{"name":"eth","containerEdits":{"env":["FROM=run"]}}]})");
  auto config = host().shell_config("main", "exec sleep 1000");
  (*config.mutable_annotations())["cdi.k8s.io/plugin_x"] = "vendor.com/net=eth,vendor.com/net=other";
  EXPECT_EQ(must(cri().shell(run(config), "echo $FROM $OTHER")), "run yes\n");
  // Files are read at each creation.
  write(
      "cdi-run/b.json",
      R"({"cdiVersion":"0.5.0","kind":"vendor.com/net","devices":[{"name":"eth","containerEdits":{"env":["FROM=new"]}}]})");
  config.mutable_metadata()->set_name("second");
  EXPECT_EQ(must(cri().shell(run(config), "echo $FROM")), "new\n");
}

TEST_F(CdiTest, WhatIsWrongIsToldWithFileAndMember) {
  const auto refused = [&](const std::string& device, Code code, const std::string& words) {
    EXPECT_TRUE(fails(cri().create(pod_, with_device("bad", device), config_), code, words)) << device;
  };
  refused("vendor.com/gpu", Code::kInvalid, "vendor.com/class=name");
  refused("vendor.com/gpu=0", Code::kNotFound, "vendor.com/gpu=0");
  write("cdi/bad.json",
        R"({"cdiVersion":"0.5.0","kind":"vendor.com/gpu","devices":[{"name":"0","containerEdits":{"env":["x"]}}]})");
  refused("vendor.com/gpu=0", Code::kNotFound, "bad.json is passed over: devices[0].containerEdits.env[0]");
  write(
      "cdi/bad.json",
      R"({"cdiVersion":"0.5.0","kind":"vendor.com/gpu","devices":[{"name":"0","containerEdits":{"deviceNodes":[{"path":"/dev/no-such"}]}}]})");
  refused("vendor.com/gpu=0", Code::kNotFound, "/dev/no-such");
  write("cdi/twice.json", R"({"cdiVersion":"0.5.0","kind":"vendor.com/gpu","devices":[{"name":"0"}]})");
  refused("vendor.com/gpu=0", Code::kPrecondition, "twice.json");
  write("cdi/hook.json",
        R"({"cdiVersion":"0.5.0","kind":"vendor.com/hook","devices":[{"name":"0","containerEdits":{"hooks":[
    {"hookName":"createRuntime","path":"/bin/false"}]}}]})");
  EXPECT_FALSE(cri().run(pod_, with_device("hook", "vendor.com/hook=0"), config_));
  EXPECT_EQ(std::ranges::count_if(must(cri().containers()), [](const auto&) { return true; }), 0);
}

}  // namespace
}  // namespace berth::test
