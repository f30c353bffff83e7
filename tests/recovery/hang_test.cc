// A step of the making of a pod or container that hangs: every retry with a short deadline joins what runs and is told
// the step, and there is one result. BERTH_RECOVERY_HANG_MS=60000 makes each hang last so long (default 1500).
#include <cstdlib>
#include <functional>
#include <iostream>

#include "base/strings.h"
#include "failpoint_list.h"
#include "fixture.h"

namespace berth::test {
namespace {

constexpr unsigned kRetries = 20;
// Shorter ones leave a busy machine no time for the answer before gRPC gives its own.
constexpr std::chrono::milliseconds kShortest{300};

struct WithFailpoints {
  static TestHostOptions options() { return {.failpoints = true}; }
};

std::chrono::milliseconds hang_time() {
  const char* text = std::getenv("BERTH_RECOVERY_HANG_MS");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  return std::chrono::milliseconds(text == nullptr ? 1500 : parse_number<unsigned>(text).value_or(1500));
}

/// The steps on the way to a running container: all that the daemon and the shim do until the answers are sent.
bool is_a_step(const Failpoint& point) {
  for (const auto* begin : {"run.", "create.", "start.", "network.", "lease.", "rootfs.", "shim.begun", "shim.entered",
                            "shim.listening", "shim.create.", "shim.start.", "shim.log.opened"}) {
    if (!point.name.starts_with(begin)) continue;
    // These are on the way down, on the way back from a failure, or behind the work.
    for (const auto* other : {".answer", "start.failed", "network.un", "lease.released", "rootfs.aside"}) {
      if (point.name.contains(other)) return false;
    }
    return true;
  }
  return false;
}

class HangTest : public HostTest<WithFailpoints> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    const auto config = host().pod_config("first");
    const auto pod = must(cri().run_pod(config));
    must(cri().run(pod, host().shell_config("main", "exec sleep 1000"), config));
    must(cri().end_pod(pod));
    before_ = look(host());
  }

  // Asks with a short deadline until the answer comes. Each answer before it names the step.
  template <class Reply, class Request>
  Reply persist(grpc::Status (Runtime::*method)(grpc::ClientContext*, const Request&, Reply*), const Request& request) {
    const auto deadline = std::max(kShortest, hang_time() / kRetries);
    for (unsigned i = 0; i < kRetries; ++i) {
      const auto answer = cri().call(method, request, deadline);
      if (answer) return *answer;
      ++late_;
      // A shim that says nothing for 15 s is given up: that answer is the result, and the next one begins anew.
      if (answer.error().text().contains("did not become ready in time")) continue;
      EXPECT_TRUE(fails(answer, Code::kTimeout, "step: "));
      EXPECT_FALSE(answer.error().text().contains("none yet")) << answer.error().text();
    }
    return must(cri().call(method, request, hang_time() + std::chrono::seconds(60)));
  }

  void make_one(const std::string& name) {
    const auto config = host().pod_config(name);
    pb::RunPodSandboxRequest run;
    *run.mutable_config() = config;
    const auto pod = persist(&Runtime::RunPodSandbox, run).pod_sandbox_id();
    pb::CreateContainerRequest create;
    create.set_pod_sandbox_id(pod);
    *create.mutable_config() = host().shell_config("main", "exec sleep 1000");
    *create.mutable_sandbox_config() = config;
    auto& volume = *create.mutable_config()->add_mounts();
    *volume.mutable_image() = create.config().image();
    volume.set_container_path("/image");
    pb::StartContainerRequest start;
    start.set_container_id(persist(&Runtime::CreateContainer, create).container_id());
    persist(&Runtime::StartContainer, start);

    const auto pods = must(cri().pods());
    ASSERT_EQ(pods.size(), 1U);
    EXPECT_EQ(pods[0].id(), pod);
    EXPECT_EQ(pods[0].state(), pb::SANDBOX_READY);
    const auto containers = must(cri().containers());
    ASSERT_EQ(containers.size(), 1U);
    EXPECT_EQ(containers[0].id(), start.container_id());
    EXPECT_EQ(containers[0].state(), pb::CONTAINER_RUNNING);
    must(cri().end_pod(pod));
  }

  HostState before_;
  unsigned late_ = 0;
};

TEST_F(HangTest, EachAnswerNamesTheStepAndThereIsOneResult) {
  unsigned steps = 0;
  for (const auto& point : must(all_failpoints())) {
    if (!is_a_step(point)) continue;
    SCOPED_TRACE(point.name);
    ++steps;
    late_ = 0;
    must(host().arm(point.name, "sleep(" + std::to_string(hang_time().count()) + ")"));
    make_one("pod" + std::to_string(steps));
    EXPECT_TRUE(host().fired(point.name));
    EXPECT_GE(late_, 2U) << "nobody waited";
    must(host().disarm());
    if (HasFatalFailure()) return;
  }
  std::cout << steps << " steps" << std::endl;
  EXPECT_GT(steps, 20U);
  EXPECT_EQ(leftovers(host(), before_), "");
}

}  // namespace
}  // namespace berth::test
