// The sandbox API and the task API v3, as a containerd of 2.0 or later calls them.
#include <gmock/gmock.h>
#include <sys/utsname.h>

#include <future>

#include "containerd/runtime/sandbox/v1/sandbox.pb.h"
#include "shim/run_support.h"

namespace berth::shim::test {
namespace {

namespace sandbox = ::containerd::runtime::sandbox::v1;

class RunSandboxTest : public RunTest {
 protected:
  void SetUp() override {
    RunTest::SetUp();
    if (HasFatalFailure()) return;
    ASSERT_NO_FATAL_FAILURE(start_shim(""));
  }
  template <class Reply, class Request>
  Result<Reply> ask(const char* method, Request request = {}, const std::string& id = "pod1") {
    request.set_sandbox_id(id);
    return call<Reply>(method, request, "containerd.runtime.sandbox.v1.Sandbox");
  }
  std::string state_of_sandbox() {
    const auto status = ask<sandbox::SandboxStatusResponse, sandbox::SandboxStatusRequest>("SandboxStatus");
    return status ? status->state() : status.error().text();
  }
};

TEST_F(RunSandboxTest, ASandboxLivesAndTakesItsContainersAlong) {
  EXPECT_EQ((ask<sandbox::PingResponse, sandbox::PingRequest>("PingSandbox").error().code()), Code::kNotFound);
  EXPECT_EQ(
      (ask<sandbox::CreateSandboxResponse, sandbox::CreateSandboxRequest>("CreateSandbox", {}, "other").error().code()),
      Code::kInvalid);
  EXPECT_TRUE((ask<sandbox::CreateSandboxResponse, sandbox::CreateSandboxRequest>("CreateSandbox")));
  EXPECT_EQ((ask<sandbox::CreateSandboxResponse, sandbox::CreateSandboxRequest>("CreateSandbox").error().code()),
            Code::kExists);
  EXPECT_EQ(state_of_sandbox(), "SANDBOX_NOTREADY");
  const auto started = ask<sandbox::StartSandboxResponse, sandbox::StartSandboxRequest>("StartSandbox");
  ASSERT_TRUE(started) << started.error().text();
  EXPECT_EQ(started->pid(), static_cast<std::uint32_t>(shim_.pid));
  EXPECT_GT(started->created_at().seconds(), 0);
  EXPECT_EQ(state_of_sandbox(), "SANDBOX_READY");
  EXPECT_TRUE((ask<sandbox::PingResponse, sandbox::PingRequest>("PingSandbox")));

  run("c1", "sleep 1000");
  const auto pid = state("c1")->pid();
  const auto figures = ask<sandbox::SandboxMetricsResponse, sandbox::SandboxMetricsRequest>("SandboxMetrics");
  ASSERT_TRUE(figures) << figures.error().text();
  EXPECT_EQ(figures->metrics().id(), "pod1");
  EXPECT_FALSE(figures->metrics().data().value().empty());
  auto waiting = std::async(std::launch::async, [this] {
    return ask<sandbox::WaitSandboxResponse, sandbox::WaitSandboxRequest>("WaitSandbox");
  });
  EXPECT_TRUE((ask<sandbox::StopSandboxResponse, sandbox::StopSandboxRequest>("StopSandbox")));
  const auto waited = waiting.get();
  ASSERT_TRUE(waited) << waited.error().text();
  EXPECT_GT(waited->exited_at().seconds(), 0);
  EXPECT_TRUE(eventually([&] { return gone(pid); }));
  EXPECT_EQ(state("c1").error().code(), Code::kNotFound);
  EXPECT_EQ(state_of_sandbox(), "SANDBOX_NOTREADY");
  EXPECT_TRUE((ask<sandbox::ShutdownSandboxResponse, sandbox::ShutdownSandboxRequest>("ShutdownSandbox")));
  client_.reset();
}

TEST_F(RunSandboxTest, ThePlatformIsThisMachine) {
  ASSERT_TRUE((ask<sandbox::CreateSandboxResponse, sandbox::CreateSandboxRequest>("CreateSandbox")));
  const auto platform = ask<sandbox::PlatformResponse, sandbox::PlatformRequest>("Platform");
  ASSERT_TRUE(platform) << platform.error().text();
  EXPECT_EQ(platform->platform().os(), "linux");
  utsname names{};
  ASSERT_EQ(::uname(&names), 0);
  const std::string machine = names.machine;
  EXPECT_EQ(platform->platform().architecture(), machine == "x86_64"    ? "amd64"
                                                 : machine == "aarch64" ? "arm64"
                                                                        : machine);
}

TEST_F(RunSandboxTest, WhatIsNotBuiltSaysSo) {
  const auto unknown = ask<sandbox::PingResponse, sandbox::PingRequest>("UpdateSandbox");
  EXPECT_EQ(unknown.error().code(), Code::kUnsupported);
  task::CheckpointTaskRequest request;
  request.set_id("c1");
  EXPECT_EQ((call<Empty>("Checkpoint", request, "containerd.task.v3.Task").error().code()), Code::kUnsupported);
}

TEST_F(RunSandboxTest, TasksAreServedInTheirThirdVersion) {
  constexpr const char* kThird = "containerd.task.v3.Task";
  write_bundle("c1", make_spec("c1", "exit 7"));
  const auto made = call<task::CreateTaskResponse>("Create", create_request("c1"), kThird);
  ASSERT_TRUE(made) << made.error().text();
  task::StartRequest begin;
  begin.set_id("c1");
  EXPECT_TRUE((call<task::StartResponse>("Start", begin, kThird)));
  task::WaitRequest end;
  end.set_id("c1");
  const auto ended = call<task::WaitResponse>("Wait", end, kThird);
  ASSERT_TRUE(ended) << ended.error().text();
  EXPECT_EQ(ended->exit_status(), 7U);
  EXPECT_TRUE(remove("c1"));
}

}  // namespace
}  // namespace berth::shim::test
