// CheckpointContainer, CheckpointPod and RestorePod by the real criu, where it works (the guest of tests/vm).
#include <gmock/gmock.h>

#include <map>
#include <thread>

#include "base/tar_header.h"
#include "checkpoint_fixture.h"

namespace berth::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class CheckpointPodTest : public CriuPods<> {
 protected:
  static std::string listed(const std::string& archive) {
    const auto ran = must(run_program({"tar", "-tvf", archive}));
    EXPECT_EQ(ran.code, 0) << ran.err;
    return ran.out;
  }
  static std::string extracted(const std::string& archive, const std::string& name) {
    const auto ran = must(run_program({"tar", "-xOf", archive, name}));
    EXPECT_EQ(ran.code, 0) << ran.err;
    return ran.out;
  }
};

TEST_F(CheckpointPodTest, AContainerGoesOnBesideItsArchive) {
  const auto config = pod_config("one");
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, counter("main"), config));
  auto before = count(id);
  ASSERT_GT(before.number, 0);
  const std::string location = out() + "/checkpoint.tar";
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(ok(checkpoint(id, location)));
    expect_counting(id, before);
    EXPECT_THAT(names_in(out()), ElementsAre("checkpoint.tar"));
    const std::string names = listed(location);
    EXPECT_THAT(names, AllOf(HasSubstr(" config.dump\n"), HasSubstr(" spec.dump\n"), HasSubstr(" container.log\n"),
                             HasSubstr(" rootfs-diff.tar\n"), HasSubstr(" deleted.files\n"), HasSubstr(" stats-dump\n"),
                             HasSubstr(" dump.log\n"), HasSubstr(" checkpoint/pages-1.img\n")));
    before = count(id);
  }
  EXPECT_THAT(extracted(location, "config.dump"), HasSubstr(R"("id":")" + id + R"(","name":"main")"));
  EXPECT_THAT(extracted(location, "spec.dump"), HasSubstr("io.kubernetes.cri.sandbox-id"));
  EXPECT_THAT(extracted(location, "deleted.files"), HasSubstr("\"/etc/group\""));
  must(os::write_file_atomic(out() + "/diff.tar", extracted(location, "rootfs-diff.tar")));
  EXPECT_EQ(extracted(out() + "/diff.tar", "kept"), "kept\n");
  EXPECT_THAT(listed(out() + "/diff.tar"), HasSubstr("etc/.wh.group\n"));
  EXPECT_TRUE(ok(cri().shell(id, "true")));
}

TEST_F(CheckpointPodTest, WhoHasTooLittleTimeGetsNothingAndThePodGoesOn) {
  const auto config = pod_config("hasty");
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, counter("main"), config));
  const auto before = count(id);
  const auto path = folder("hasty");
  EXPECT_TRUE(
      fails(checkpoint_pod(pod_request(pod, path, {id}), std::chrono::milliseconds(400)), Code::kTimeout, "step"));
  EXPECT_THAT(names_in(path), IsEmpty());
  expect_counting(id, before);
}

TEST_F(CheckpointPodTest, APodIsWrittenAtOneMoment) {
  const auto config = pod_config("two");
  const auto pod = must(cri().run_pod(config));
  const auto first = must(cri().run(pod, counter("first"), config));
  const auto second = must(cri().run(pod, counter("second"), config));
  const auto other = must(cri().run(pod, counter("other"), config));
  const auto before = count(first);
  const auto before_second = count(second);
  const auto path = folder("pod");
  ASSERT_TRUE(ok(checkpoint_pod(pod_request(pod, path, {first, second}))));
  expect_counting(first, before);
  expect_counting(second, before_second);
  EXPECT_THAT(names_in(path), ElementsAre("berth-checkpoint"));
  EXPECT_THAT(names_in(path + "/berth-checkpoint"), ElementsAre("containers", "pod", "shm.tar"));
  EXPECT_THAT(names_in(path + "/berth-checkpoint/containers"), ElementsAre("0", "1"));
  EXPECT_EQ(extracted(path + "/berth-checkpoint/shm.tar", "second"), "shared\n");
  // A folder is used once.
  EXPECT_TRUE(fails(checkpoint_pod(pod_request(pod, path, {first, second})), Code::kPrecondition, "not empty"));
  EXPECT_THAT(names_in(path), ElementsAre("berth-checkpoint"));
  EXPECT_TRUE(ok(checkpoint_pod(pod_request(pod, folder("again"), {first, second, other}))));
  expect_counting(other, Count{count(other).word, 0});
}

/// A checkpoint of a pod with two containers, which is gone.
class RestorePodTest : public CheckpointPodTest {
 protected:
  void SetUp() override {
    CheckpointPodTest::SetUp();
    if (IsSkipped()) return;
    const auto config = pod_config("old");
    const auto pod = must(cri().run_pod(config));
    const auto first = must(cri().run(pod, counter("first"), config));
    const auto second = must(cri().run(pod, counter("second"), config));
    before_ = {{"first", count(first)}, {"second", count(second)}};
    path_ = folder("pod");
    must(checkpoint_pod(pod_request(pod, path_, {first, second})));
    must(cri().end_pod(pod));
    config_ = pod_config("new");
    request_ = restore_request(path_, config_, {counter("second"), counter("first")});
  }
  [[nodiscard]] std::string part(const std::string& name) const { return path_ + "/berth-checkpoint/" + name; }
  static std::string cgroup_file(const pb::PodSandboxConfig& config, const std::string& id, const std::string& name) {
    return os::read_file("/sys/fs/cgroup" + config.linux().cgroup_parent() + "/" + id + "/" + name, 4096).value_or("?");
  }
  static std::map<std::string, std::string> ids_of(const pb::RestorePodResponse& reply) {
    std::map<std::string, std::string> ids;
    for (const auto& container : reply.restored_containers()) ids[container.name()] = container.container_id();
    return ids;
  }
  void expect_alive(const std::string& name, const std::string& id) {
    expect_counting(id, before_.at(name));
    EXPECT_EQ(cri().shell(id, "cat /kept; cat /dev/shm/first; ls /etc/group 2>/dev/null || echo gone").value_or(""),
              "kept\nshared\ngone\n");
    must(cri().shell(id, "touch /say"));
    EXPECT_TRUE(wait_until(kPatience, [&] {
      return os::read_file(host().logs("new") + "/" + name + ".log", 1U << 20).value_or("").find(" F said\n") !=
             std::string::npos;
    }));
  }
  /// Writes an archive of one member over the writable layer of the first container, as long as the old one.
  void replace_layer(const std::vector<TarMember>& members) {
    const auto size = os::read_file(part("containers/0/rootfs-diff.tar"), 64U << 20).value_or("").size();
    std::string text;
    for (const auto& member : members) text += tar_header(member);
    text.resize(size);
    must(os::write_file_atomic(part("containers/0/rootfs-diff.tar"), text, 0600));
  }

  std::map<std::string, Count> before_;
  std::string path_;
  pb::PodSandboxConfig config_;
  pb::RestorePodRequest request_;
};

TEST_F(RestorePodTest, ContainersWaitUntilTheyAreStartedAndGoOn) {
  auto reply = restore_pod(request_);
  ASSERT_TRUE(ok(reply));
  auto ids = ids_of(*reply);
  ASSERT_EQ(ids.size(), 2U);
  EXPECT_EQ(must(cri().pod_status(reply->pod_sandbox_id())).state(), pb::SANDBOX_READY);
  EXPECT_EQ(must(cri().pods()).size(), 1U);
  EXPECT_EQ(must(cri().containers()).size(), 2U);
  // Once more, as if the answer had been lost.
  const auto again = restore_pod(request_);
  ASSERT_TRUE(ok(again));
  EXPECT_EQ(again->pod_sandbox_id(), reply->pod_sandbox_id());
  EXPECT_EQ(ids_of(*again), ids);
  for (const auto& [name, id] : ids) {
    EXPECT_EQ(must(cri().status(id)).state(), pb::CONTAINER_CREATED);
    EXPECT_THAT(cgroup_file(config_, id, "cgroup.events"), HasSubstr("populated 1\nfrozen 1"));
    pb::UpdateContainerResourcesRequest update;
    update.set_container_id(id);
    update.mutable_linux()->set_memory_limit_in_bytes(64 << 20);
    EXPECT_TRUE(ok(cri().call(&Runtime::UpdateContainerResources, update)));
  }
  // The daemon may go and come: they still wait.
  ASSERT_TRUE(ok(host().stop_daemon()));
  ASSERT_TRUE(ok(host().start_daemon()));
  for (const auto& [name, id] : ids) {
    EXPECT_EQ(must(cri().status(id)).state(), pb::CONTAINER_CREATED);
    ASSERT_TRUE(ok(cri().start(id)));
    EXPECT_EQ(must(cri().status(id)).state(), pb::CONTAINER_RUNNING);
    expect_alive(name, id);
    EXPECT_EQ(cgroup_file(config_, id, "memory.max"), "67108864\n");
  }
  EXPECT_TRUE(fails(restore_pod(request_), Code::kExists));
  // What was restored can be checkpointed and restored again.
  const auto second_path = folder("second");
  before_ = {{"first", count(ids["first"])}, {"second", count(ids["second"])}};
  ASSERT_TRUE(ok(checkpoint_pod(pod_request(reply->pod_sandbox_id(), second_path, {ids["first"], ids["second"]}))));
  must(cri().stop(ids["first"], 0));
  EXPECT_EQ(must(cri().wait_exited(ids["first"])).exit_code(), 137);
  must(cri().end_pod(reply->pod_sandbox_id()));
  must(os::remove_tree(host().logs("new")));
  request_.set_checkpoint_path(second_path);
  reply = restore_pod(request_);
  ASSERT_TRUE(ok(reply));
  ids = ids_of(*reply);
  for (const auto& [name, id] : ids) {
    ASSERT_TRUE(ok(cri().start(id)));
    expect_alive(name, id);
  }
}

/// As a kubelet asks for one: masks, a filter, limits, volumes and files of the host.
TEST_F(RestorePodTest, AKubeletsContainerIsTheSameAgain) {
  must(os::make_dirs(out() + "/volume"));
  must(os::write_file_atomic(out() + "/termination", ""));
  const auto container = [&](const std::string& volume) {
    auto config = counter("kubelet");
    auto& linux_config = *config.mutable_linux();
    auto& security = *linux_config.mutable_security_context();
    for (const char* path : {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"}) {
      security.add_masked_paths(path);
    }
    for (const char* path : {"/proc/sys", "/proc/sysrq-trigger"}) security.add_readonly_paths(path);
    security.mutable_seccomp()->set_profile_type(pb::SecurityProfile::RuntimeDefault);
    linux_config.mutable_resources()->set_memory_limit_in_bytes(128 << 20);
    linux_config.mutable_resources()->set_oom_score_adj(900);
    auto& data = *config.add_mounts();
    data.set_container_path("/data");
    data.set_host_path(volume);
    auto& termination = *config.add_mounts();
    termination.set_container_path("/dev/termination-log");
    termination.set_host_path(out() + "/termination");
    auto& secret = *config.add_mounts();
    secret.set_container_path("/var/run/secrets");
    secret.set_host_path(out() + "/volume");
    secret.set_readonly(true);
    auto& image = *config.add_mounts();
    image.set_container_path("/image");
    *image.mutable_image() = config.image();
    return config;
  };
  auto config = pod_config("kubelet");
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, container(out() + "/volume"), config));
  before_["kubelet"] = count(id);
  const auto path = folder("kubelet-pod");
  ASSERT_TRUE(ok(checkpoint_pod(pod_request(pod, path, {id}))));
  must(cri().end_pod(pod));

  must(os::make_dirs(out() + "/other"));
  const auto reply = restore_pod(restore_request(path, config_, {container(out() + "/other")}));
  ASSERT_TRUE(ok(reply));
  const auto restored = reply->restored_containers(0).container_id();
  ASSERT_TRUE(ok(cri().start(restored)));
  expect_counting(restored, before_["kubelet"]);
  EXPECT_EQ(
      must(cri().shell(restored,
                       "cat /proc/1/oom_score_adj; grep Seccomp: /proc/1/status; "
                       "echo new > /data/file; echo end > /dev/termination-log; "
                       "cat /proc/kcore /proc/keys | wc -c; ls -d /image/bin; "
                       "for f in /proc/sys/kernel/hostname /var/run/secrets/x; do echo x > $f || echo read-only; done "
                       "2>/dev/null")),
      "900\nSeccomp:\t2\n0\n/image/bin\nread-only\nread-only\n");
  EXPECT_EQ(os::read_file(out() + "/other/file", 100).value_or("?"), "new\n");
  EXPECT_EQ(os::read_file(out() + "/termination", 100).value_or("?"), "end\n");
  EXPECT_THAT(names_in(out() + "/volume"), IsEmpty());
}

/// Old criu loses it; then it is refused, and never lost without a word.
TEST_F(RestorePodTest, ARestraintIsThereAgainOrItIsRefused) {
  auto container = counter("sealed");
  container.mutable_linux()->mutable_security_context()->set_no_new_privs(true);
  auto config = pod_config("sealed");
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, container, config));
  const auto path = folder("sealed-pod");
  ASSERT_TRUE(ok(checkpoint_pod(pod_request(pod, path, {id}))));
  must(cri().end_pod(pod));
  const auto before = look(host());
  const auto reply = restore_pod(restore_request(path, config_, {container}));
  if (!reply) {
    EXPECT_TRUE(fails(reply, Code::kUnsupported, "no_new_privs"));
    EXPECT_THAT(must(cri().pods()), IsEmpty());
    EXPECT_EQ(leftovers(host(), before), "");
    return;
  }
  const auto restored = reply->restored_containers(0).container_id();
  ASSERT_TRUE(ok(cri().start(restored)));
  EXPECT_EQ(must(cri().shell(restored, "grep NoNewPrivs /proc/1/status")), "NoNewPrivs:\t1\n");
}

TEST_F(RestorePodTest, ADaemonThatDiesMeanwhileLeavesNothingFrozen) {
  const auto config = pod_config("orphan");
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, counter("main"), config));
  const auto before = count(id);
  const auto path = folder("orphan-pod");
  std::thread asking([&] { EXPECT_FALSE(checkpoint_pod(pod_request(pod, path, {id}))); });
  const auto frozen = [&] { return cgroup_file(config, id, "cgroup.events").find("frozen 1") != std::string::npos; };
  EXPECT_TRUE(wait_until(kPatience, frozen));
  host().kill9_daemon();
  asking.join();
  EXPECT_TRUE(wait_until(kPatience, [&] { return !frozen(); })) << "nobody is needed for it to go on";
  must(host().start_daemon());
  expect_counting(id, before);
  EXPECT_THAT(names_in(path), IsEmpty());
  EXPECT_TRUE(ok(checkpoint_pod(pod_request(pod, path, {id}))));
}

TEST_F(RestorePodTest, OneThatIsNeverStartedGoesLikeOthers) {
  const auto before = look(host());
  const auto reply = must(restore_pod(request_));
  must(cri().remove(ids_of(reply).at("first")));
  must(cri().end_pod(reply.pod_sandbox_id()));
  EXPECT_EQ(leftovers(host(), before), "");
}

TEST_F(RestorePodTest, WhatDoesNotFitIsRefusedAndNothingIsMade) {
  const auto before = look(host());
  const auto with = [&](auto change) {
    auto request = request_;
    change(request);
    return restore_pod(request);
  };
  const auto one = [](auto& r) { return r.mutable_container_configs(0); };
  EXPECT_TRUE(fails(with([&](auto& r) { one(r)->mutable_metadata()->set_name("first"); }), Code::kInvalid, "two"));
  EXPECT_TRUE(fails(with([&](auto& r) { one(r)->mutable_metadata()->set_name(""); }), Code::kInvalid, "name"));
  EXPECT_TRUE(fails(with([&](auto& r) { one(r)->mutable_metadata()->set_name("x"); }), Code::kInvalid, "second"));
  EXPECT_TRUE(fails(with([](auto& r) { r.mutable_container_configs()->RemoveLast(); }), Code::kInvalid, "missing"));
  EXPECT_TRUE(fails(with([](auto& r) { *r.add_container_configs() = counter("third"); }), Code::kInvalid, "third"));
  EXPECT_TRUE(fails(with([&](auto& r) { one(r)->add_args("x"); }), Code::kInvalid, "args"));
  EXPECT_TRUE(fails(with([&](auto& r) { one(r)->set_working_dir("/x"); }), Code::kInvalid, "working_dir"));
  EXPECT_TRUE(fails(with([&](auto& r) { one(r)->add_envs()->set_key("X"); }), Code::kInvalid, "envs"));
  EXPECT_TRUE(fails(with([&](auto& r) { one(r)->add_mounts()->set_container_path("/x"); }), Code::kInvalid, "/x"));
  EXPECT_TRUE(fails(
      with([&](auto& r) { one(r)->mutable_linux()->mutable_security_context()->mutable_run_as_user()->set_value(7); }),
      Code::kInvalid, "security_context"));
  EXPECT_TRUE(fails(with([&](auto& r) { one(r)->mutable_image()->set_image("absent"); }), Code::kNotFound, "absent"));
  EXPECT_TRUE(fails(with([](auto& r) { r.set_checkpoint_path(folder("empty")); }), Code::kNotFound, "whole"));
  EXPECT_THAT(must(cri().pods()), IsEmpty());
  EXPECT_EQ(leftovers(host(), before), "");
}

TEST_F(RestorePodTest, AFailureHalfwayLeavesNothing) {
  const auto before = look(host());
  // The first container is there by then.
  const auto core = part("containers/1/checkpoint/core-1.img");
  const auto size = must(os::read_file(core, 1U << 20)).size();
  must(os::write_file_atomic(core, std::string(size, 'x'), 0600));
  for (int i = 0; i < 2; ++i) {
    const auto failed = restore_pod(request_);
    ASSERT_FALSE(failed);
    EXPECT_THAT(failed.error().text(), HasSubstr("container second"));
    EXPECT_THAT(must(cri().pods()), IsEmpty());
    EXPECT_THAT(must(cri().containers()), IsEmpty());
    EXPECT_EQ(leftovers(host(), before), "");
  }
  EXPECT_TRUE(fails(restore_pod(request_, std::chrono::milliseconds(300)), Code::kTimeout));
  EXPECT_EQ(leftovers(host(), before), "");
}

TEST_F(RestorePodTest, HostileFilesAreRefused) {
  const auto before = look(host());
  const std::string evil = host().dir() + "/evil";
  replace_layer({{.path = "../../../../../../../../.." + evil, .mode = 0644}});
  EXPECT_TRUE(fails(restore_pod(request_), Code::kCorrupt, "writable layer"));
  replace_layer({{.type = '2', .path = "out", .link = host().dir()}, {.path = "out/evil", .mode = 0644}});
  EXPECT_FALSE(restore_pod(request_)) << "the layer lacks what criu looks for";
  replace_layer({{.path = "huge", .size = 1ULL << 50, .mode = 0644}});
  EXPECT_FALSE(restore_pod(request_));
  EXPECT_FALSE(os::exists(evil));
  // Links and other files in the place of those that were written.
  const auto pages = part("containers/0/checkpoint/pages-1.img");
  must(os::remove_file(pages));
  EXPECT_TRUE(fails(restore_pod(request_), Code::kCorrupt, "container 0"));
  ASSERT_EQ(::symlink("/etc/passwd", pages.c_str()), 0);
  EXPECT_TRUE(fails(restore_pod(request_), Code::kCorrupt));
  must(os::write_file_atomic(part("pod"), "nonsense"));
  EXPECT_TRUE(fails(restore_pod(request_), Code::kCorrupt));
  must(os::remove_file(part("pod")));
  ASSERT_EQ(::symlink("/etc/passwd", part("pod").c_str()), 0);
  EXPECT_FALSE(restore_pod(request_));
  EXPECT_THAT(must(cri().pods()), IsEmpty());
  EXPECT_EQ(leftovers(host(), before), "");
}

struct NetworkedNode {
  // Without a bridge, which the guest's kernel has not.
  static TestHostOptions options() {
    return {.conflist = R"({"cniVersion": "1.0.0", "name": "pods", "plugins": [
      {"type": "ptp", "ipam": {"type": "host-local", "dataDir": "@DIR@/ipam", "ranges": [[{"subnet": "10.93.0.0/24"}]]}}]})"};
  }
};

class NetworkedRestoreTest : public CriuPods<NetworkedNode> {};

TEST_F(NetworkedRestoreTest, APodGetsAnAddressOfItsOwnAndListensOnIt) {
  auto config = host().pod_config("old");
  const auto pod = must(cri().run_pod(config));
  auto container = counter("main");
  container.mutable_command(2)->insert(0, "nc -ll -p 8080 -e /bin/hostname & ");
  const auto id = must(cri().run(pod, container, config));
  const auto talk = [](const std::string& in) { return cri().shell(in, "nc 127.0.0.1 8080 </dev/null"); };
  EXPECT_TRUE(wait_until(kPatience, [&] { return talk(id).value_or("") == "old\n"; })) << talk(id).value_or("?");
  const auto address = must(cri().pod_status(pod)).network().ip();
  EXPECT_NE(address, "");
  const auto before = count(id);
  const auto path = folder("pod");
  ASSERT_TRUE(ok(checkpoint_pod(pod_request(pod, path, {id}))));
  expect_counting(id, before);
  EXPECT_TRUE(ok(checkpoint(id, out() + "/one.tar")));
  EXPECT_EQ(talk(id).value_or(""), "old\n");

  // Beside the old one.
  config = host().pod_config("new");
  const auto reply = restore_pod(restore_request(path, config, {container}));
  ASSERT_TRUE(ok(reply));
  const auto restored = reply->restored_containers(0).container_id();
  ASSERT_TRUE(ok(cri().start(restored)));
  expect_counting(restored, before);
  EXPECT_EQ(talk(restored).value_or("?"), "new\n");
  const auto other = must(cri().pod_status(reply->pod_sandbox_id())).network().ip();
  EXPECT_NE(other, "");
  EXPECT_NE(other, address);
  EXPECT_THAT(must(cri().shell(restored, "ip -4 addr show dev eth0; hostname")),
              AllOf(HasSubstr(other), HasSubstr("new")));
  expect_counting(id, before);
}

}  // namespace
}  // namespace berth::test
