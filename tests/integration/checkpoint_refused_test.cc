// What of CheckpointContainer, CheckpointPod and RestorePod is refused, and why; needs no criu that works.
#include <gmock/gmock.h>

#include "checkpoint_fixture.h"
#include "os/cgroup.h"

namespace berth::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct WithHandlers {
  static TestHostOptions options() {
    return {.config =
                "[handlers.berth]\nengine = \"process\"\n"
                "[handlers.runc]\nengine = \"external\"\nbinary = \"/usr/sbin/runc\"\n"};
  }
};

class CheckpointRefusedTest : public CountingPods<WithHandlers> {
 protected:
  void TearDown() override {
    expect_no_drafts();
    CountingPods::TearDown();
  }
  /// A pod with one container that counts.
  Running counting(const std::string& name, const std::string& handler = "") {
    Running running{pod_config(name), "", ""};
    running.pod = must(cri().run_pod(running.config, handler));
    running.container = must(cri().run(running.pod, counter("main"), running.config));
    return running;
  }
};

TEST_F(CheckpointRefusedTest, AContainersLocationIsAFile) {
  const auto running = counting("one");
  for (const std::string location : {"", "relative.tar", "/", "/tmp/", "/tmp/../etc/x", "//tmp/x", "/tmp/./x"}) {
    EXPECT_TRUE(fails(checkpoint(running.container, location), Code::kInvalid, "location")) << location;
  }
  EXPECT_TRUE(fails(checkpoint(running.container, out() + "/x", -1), Code::kInvalid, "timeout"));
  EXPECT_TRUE(fails(checkpoint("", out() + "/x"), Code::kInvalid));
  EXPECT_TRUE(fails(checkpoint(std::string(64, 'c'), out() + "/x"), Code::kNotFound));
  EXPECT_TRUE(fails(checkpoint(running.container, out() + "/absent/x"), Code::kNotFound, "location"));
  // The folder itself must be no link: what it leads to is somebody else's.
  must(os::make_dirs(out() + "/real"));
  ASSERT_EQ(::symlink((out() + "/real").c_str(), (out() + "/link").c_str()), 0);
  EXPECT_FALSE(checkpoint(running.container, out() + "/link/x"));
  EXPECT_THAT(names_in(out() + "/real"), IsEmpty());
  must(cri().stop(running.container, 0));
  EXPECT_TRUE(fails(checkpoint(running.container, out() + "/x"), Code::kPrecondition, "not running"));
}

TEST_F(CheckpointRefusedTest, APodsRequestIsWhole) {
  const auto running = counting("two");
  const auto path = folder("pod");
  const auto good = pod_request(running.pod, path, {running.container});
  const auto with = [&](auto change) {
    auto request = good;
    change(request);
    return checkpoint_pod(request);
  };
  EXPECT_TRUE(fails(with([](auto& r) { r.set_output_path("relative"); }), Code::kInvalid, "output_path"));
  EXPECT_TRUE(fails(with([](auto& r) { r.set_output_path("/tmp/../etc"); }), Code::kInvalid, "output_path"));
  EXPECT_TRUE(fails(with([&](auto& r) { r.set_output_path(path + "/absent"); }), Code::kNotFound, "output_path"));
  EXPECT_TRUE(fails(with([](auto& r) { r.clear_container_ids(); }), Code::kInvalid, "container_ids"));
  EXPECT_TRUE(fails(with([&](auto& r) { r.add_container_ids(running.container); }), Code::kInvalid, "twice"));
  EXPECT_TRUE(
      fails(with([](auto& r) { (*r.mutable_options())["leave-running"] = "true"; }), Code::kInvalid, "leave-running"));
  EXPECT_TRUE(fails(with([](auto& r) { r.set_pod_sandbox_id(std::string(64, 'c')); }), Code::kNotFound));
  EXPECT_TRUE(fails(with([](auto& r) { r.set_container_ids(0, std::string(64, 'c')); }), Code::kNotFound));
  const auto other = counting("three");
  EXPECT_TRUE(fails(with([&](auto& r) { r.add_container_ids(other.container); }), Code::kInvalid, "this pod"));
  // A folder that is a link, or not empty.
  ASSERT_EQ(::symlink(path.c_str(), (out() + "/link").c_str()), 0);
  EXPECT_FALSE(with([&](auto& r) { r.set_output_path(out() + "/link"); }));
  must(os::write_file_atomic(path + "/old", ""));
  EXPECT_TRUE(fails(checkpoint_pod(good), Code::kPrecondition, "not empty"));
  EXPECT_THAT(names_in(path), ElementsAre("old"));
  // No deadline.
  grpc::ClientContext context;
  pb::CheckpointPodResponse reply;
  const auto status = cri().runtime().CheckpointPod(&context, good, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  EXPECT_THAT(status.error_message(), testing::HasSubstr("deadline"));
  must(cri().stop(running.container, 0));
  EXPECT_TRUE(fails(checkpoint_pod(good), Code::kPrecondition, "not running"));
}

TEST_F(CheckpointRefusedTest, WhereCriuCannotWorkItSaysSoAndNothingIsLeft) {
  if (criu_works()) GTEST_SKIP() << "criu works here";
  const auto running = counting("four");
  const auto before = count(running.container);
  const auto path = folder("pod");
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(fails(checkpoint(running.container, out() + "/x.tar"), Code::kUnsupported, "criu"));
    EXPECT_TRUE(fails(checkpoint_pod(pod_request(running.pod, path, {running.container})), Code::kUnsupported, "criu"));
  }
  EXPECT_THAT(names_in(out()), ElementsAre("pod"));
  EXPECT_THAT(names_in(path), IsEmpty());
  expect_counting(running.container, before);
}

TEST_F(CheckpointRefusedTest, ARestoresRequestIsWhole) {
  const auto config = pod_config("new");
  const auto path = folder("pod");
  const auto good = restore_request(path, config, {counter("main")});
  const auto with = [&](auto change) {
    auto request = good;
    change(request);
    return restore_pod(request);
  };
  EXPECT_TRUE(fails(with([](auto& r) { r.set_checkpoint_path("relative"); }), Code::kInvalid, "checkpoint_path"));
  EXPECT_TRUE(fails(with([](auto& r) { r.set_checkpoint_path("/tmp/.."); }), Code::kInvalid, "checkpoint_path"));
  EXPECT_TRUE(fails(with([](auto& r) { r.clear_container_configs(); }), Code::kInvalid, "container_configs"));
  EXPECT_TRUE(fails(with([](auto& r) { (*r.mutable_options())["x"] = ""; }), Code::kInvalid, "\"x\""));
  EXPECT_TRUE(fails(with([](auto& r) { r.set_runtime_handler("absent"); }), Code::kNotFound, "absent"));
  EXPECT_TRUE(fails(with([](auto& r) { r.set_runtime_handler("runc"); }), Code::kUnsupported, "/usr/sbin/runc"));
  EXPECT_TRUE(fails(with([](auto& r) { r.mutable_config()->clear_metadata(); }), Code::kInvalid, "metadata"));
  grpc::ClientContext context;
  pb::RestorePodResponse reply;
  const auto status = cri().runtime().RestorePod(&context, good, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  if (must(os::find_cgroups("/sys/fs/cgroup")).v2) {
    EXPECT_TRUE(fails(restore_pod(good), Code::kNotFound, "checkpoint"));
  } else {
    EXPECT_TRUE(fails(restore_pod(good), Code::kUnsupported, "cgroup v1"));
  }
  EXPECT_THAT(must(cri().pods()), IsEmpty());
}

TEST_F(CheckpointRefusedTest, OtherEnginesAreNamed) {
  if (!os::exists("/usr/sbin/runc")) GTEST_SKIP() << "no runc here";
  const auto running = counting("five", "runc");
  EXPECT_TRUE(fails(checkpoint(running.container, out() + "/x.tar"), Code::kUnsupported, "/usr/sbin/runc"));
  EXPECT_TRUE(fails(checkpoint_pod(pod_request(running.pod, folder("pod"), {running.container})), Code::kUnsupported,
                    "handler \"runc\""));
}

TEST_F(CheckpointRefusedTest, WhatAPodSharesWithOthersIsNamed) {
  auto config = pod_config("shared");
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(pb::POD);
  const auto pod = must(cri().run_pod(config));
  auto container = counter("main");
  *container.mutable_linux()->mutable_security_context()->mutable_namespace_options() =
      config.linux().security_context().namespace_options();
  const auto id = must(cri().run(pod, container, config));
  EXPECT_TRUE(fails(checkpoint(id, out() + "/x.tar"), Code::kUnsupported, "pid namespace"));
  auto talker = counter("talker");
  talker.set_stdin(true);
  const auto second = must(cri().run(pod, talker, config));
  EXPECT_TRUE(fails(checkpoint(second, out() + "/x.tar"), Code::kUnsupported));
  EXPECT_TRUE(fails(checkpoint_pod(pod_request(pod, folder("pod"), {second})), Code::kUnsupported, "stdin"));
}

}  // namespace
}  // namespace berth::test
