// Nothing is left of pods that are gone, and nothing of pods that run is seen in the machine's mount table. This
// program has no mount namespace of its own: the daemon mounts, if it does, where PID 1 looks.
#include <atomic>
#include <thread>

#include "fixture.h"
#include "os/file.h"

namespace berth::test {
namespace {

struct Plain {
  // A short period: the bridge and the rules that pods share go two rounds after the last pod.
  static TestHostOptions options() { return {.config = "[runtime]\nstats_period_s = 1\n"}; }
};

class LeakTest : public HostTest<Plain> {
 protected:
  // What is there before any pod: no bridge, no rule.
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    before_ = look(host());
    for (const auto& line : before_.lines) {
      EXPECT_FALSE(line.starts_with("cgroup") || line.starts_with("process") || line.starts_with("netns-fd") ||
                   line.find("link: veth") != std::string::npos || line.find("berth0") != std::string::npos)
          << "before any pod: " << line;
    }
  }
  // A pod with a web server and a host port.
  static Result<std::string> one_pod(const std::string& name, int host_port = 0) {
    auto config = host().pod_config(name);
    if (host_port > 0) {
      auto& port = *config.add_port_mappings();
      port.set_host_port(host_port);
      port.set_container_port(80);
    }
    BERTH_ASSIGN(auto pod, cri().run_pod(config), name);
    BERTH_TRY(cri().run(pod, host().container_config("web", "busybox"), config), name);
    return pod;
  }

  HostState before_;
};

TEST_F(LeakTest, AHundredPodsOneAfterAnother) {
  for (int i = 0; i < 100; ++i) {
    const auto pod = one_pod("pod" + std::to_string(i), i % 3 == 0 ? 20000 + i : 0);
    ASSERT_TRUE(ok(pod));
    if (i % 2 == 0) {
      ASSERT_TRUE(ok(cri().stop_pod(*pod)));
    }
    ASSERT_TRUE(ok(cri().remove_pod(*pod)));
  }
  EXPECT_EQ(leftovers(host(), before_), "");
}

TEST_F(LeakTest, FiftyPodsAtOnce) {
  constexpr int kPods = 50;
  const auto mounts_before = mounts(host());
  std::vector<Result<std::string>> pods(kPods, fail(Code::kInternal, "not run"));
  const auto in_threads = [](const std::function<void(std::size_t)>& work) {
    std::atomic<std::size_t> next = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 10; ++t) {
      threads.emplace_back([&] {
        for (std::size_t i = 0; (i = next++) < kPods;) work(i);
      });
    }
    for (auto& thread : threads) thread.join();
  };
  in_threads([&pods](std::size_t i) { pods[i] = one_pod("pod" + std::to_string(i), 20000 + static_cast<int>(i)); });
  for (const auto& pod : pods) EXPECT_TRUE(ok(pod));
  EXPECT_EQ(must(cri().pods()).size(), static_cast<std::size_t>(kPods));
  EXPECT_EQ(must(cri().containers()).size(), static_cast<std::size_t>(kPods));

  // While all of them run.
  EXPECT_EQ(difference(mounts_before, mounts(host())), "");
  const auto state = must(os::list_dir(host().state() + "/pods"));
  EXPECT_EQ(state.size(), static_cast<std::size_t>(kPods));
  std::size_t shims = 0;
  std::size_t others = 0;
  for (const pid_t pid : processes_of(host())) {
    const auto command = os::read_file("/proc/" + std::to_string(pid) + "/cmdline", 4096).value_or("");
    if (command.find("containerd-shim-berth-v2") != std::string::npos) {
      ++shims;
    } else {
      ++others;
    }
  }
  EXPECT_EQ(shims, static_cast<std::size_t>(kPods));
  EXPECT_EQ(others, static_cast<std::size_t>(kPods)) << "one process a container and nothing else";

  std::vector<Result<>> ends(kPods, fail(Code::kInternal, "not run"));
  in_threads([&](std::size_t i) {
    if (pods[i]) ends[i] = cri().end_pod(*pods[i]);
  });
  for (const auto& end : ends) EXPECT_TRUE(ok(end));
  EXPECT_EQ(leftovers(host(), before_), "");
}

TEST_F(LeakTest, PodsThatNeverBecameReady) {
  // The second pod on a taken port, a container that cannot start, one that cannot be made.
  const auto pod = must(one_pod("holder", 20001));
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(one_pod("rival", 20001));
  const auto config = host().pod_config("broken");
  const auto broken = must(cri().run_pod(config));
  const auto no_program = must(cri().create(broken, host().container_config("a", "busybox", {"/no/such"}), config));
  EXPECT_FALSE(cri().start(no_program));
  auto bad_mount = host().shell_config("b", "true");
  bad_mount.add_mounts()->set_host_path("/proc/self/mem/not-a-folder");
  bad_mount.mutable_mounts(0)->set_container_path("/x");
  EXPECT_FALSE(cri().create(broken, bad_mount, config));
  must(cri().end_all());
  EXPECT_EQ(leftovers(host(), before_), "");
}

TEST_F(LeakTest, AStoppedDaemonLeavesItsPodsAndOneThatStartsAgainTakesThemBack) {
  const auto pod = must(one_pod("stays"));
  EXPECT_EQ(must(host().stop_daemon()), 0);
  ASSERT_TRUE(ok(host().start_daemon()));
  EXPECT_EQ(must(cri().pod_status(pod)).state(), pb::SANDBOX_READY);
  must(cri().end_all());
  EXPECT_EQ(leftovers(host(), before_), "");
}

}  // namespace
}  // namespace berth::test
