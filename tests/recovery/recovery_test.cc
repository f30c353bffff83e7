// The daemon may die at any time: containers, logs, exit codes and lists do not notice.
#include <signal.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <map>
#include <random>
#include <thread>

#include "base/strings.h"
#include "fixture.h"
#include "log_lines.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "wait.h"

namespace berth::test {
namespace {

struct WithLogger {
  static TestHostOptions options() { return {.images = {"busybox", "logger"}}; }
};

// How long the daemon stays away; BERTH_RECOVERY_SECONDS changes it.
std::chrono::seconds away() {
  const char* text = std::getenv("BERTH_RECOVERY_SECONDS");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  return std::chrono::seconds(text == nullptr ? 5 : parse_number<unsigned>(text).value_or(5));
}

class RecoveryTest : public HostTest<WithLogger> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    must(cri().end_pod(start("first", host().shell_config("main", "exec sleep 1000")).pod));
    before_ = look(host());
  }
  // The processes of a container by its cgroup.
  static std::vector<pid_t> pids_of(const std::string& container) {
    std::vector<pid_t> found;
    for (const pid_t pid : processes_of(host())) {
      const auto groups = os::read_file("/proc/" + std::to_string(pid) + "/cgroup", 65536);
      if (groups && groups->find(container) != std::string::npos) found.push_back(pid);
    }
    return found;
  }
  // Pods and containers with all that a client sees of them, in a form that compares.
  static std::map<std::string, std::string> everything() {
    std::map<std::string, std::string> all;
    for (const auto& pod : must(cri().pods())) all[pod.id()] = must(cri().pod_status(pod.id())).DebugString();
    for (const auto& container : must(cri().containers())) {
      all[container.id()] = container.DebugString() + must(cri().status(container.id())).DebugString();
    }
    return all;
  }

  HostState before_;
};

TEST_F(RecoveryTest, TwentyPodsThatLogDoNotNotice) {
  constexpr int kPods = 20;
  std::vector<Running> pods;
  for (int i = 0; i < kPods; ++i)
    pods.push_back(start("log" + std::to_string(i), host().container_config("main", "logger")));
  // This one ends while nobody looks: when the file appears.
  const std::string signal_dir = host().dir() + "/signal";
  ASSERT_TRUE(ok(os::make_dirs(signal_dir)));
  auto waiter_config = host().shell_config("main", "until [ -e /signal/go ]; do sleep 0.02; done; echo ended; exit 7");
  waiter_config.add_mounts()->set_host_path(signal_dir);
  waiter_config.mutable_mounts(0)->set_container_path("/signal");
  const auto waiter = start("waiter", waiter_config);

  std::map<std::string, std::vector<pid_t>> pids;
  std::map<std::string, pid_t> shims;
  for (const auto& pod : pods) {
    pids[pod.container] = pids_of(pod.container);
    EXPECT_EQ(pids[pod.container].size(), 1U);
    shims[pod.pod] = shim_of(pod.pod);
  }
  const auto shown = everything();

  host().kill9_daemon();
  const auto killed = std::chrono::steady_clock::now();
  const auto waiter_pids = pids_of(waiter.container);
  ASSERT_FALSE(waiter_pids.empty());
  const auto before_end = std::chrono::system_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  ASSERT_TRUE(ok(os::write_file_atomic(signal_dir + "/go", "")));
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [&] { return pids_of(waiter.container).empty(); }));
  const auto after_end = std::chrono::system_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  std::this_thread::sleep_until(killed + away());  // the time without a daemon is what is tested
  ASSERT_TRUE(ok(host().start_daemon()));

  auto now = everything();
  const auto ended = must(cri().status(waiter.container));
  EXPECT_EQ(ended.state(), pb::CONTAINER_EXITED);
  EXPECT_EQ(ended.exit_code(), 7);
  EXPECT_EQ(ended.reason(), "Error");
  EXPECT_GE(ended.finished_at(), before_end);
  // Its cgroup is empty a moment before the shim hears of the end.
  EXPECT_LE(ended.finished_at(), after_end + std::chrono::nanoseconds(std::chrono::milliseconds(500)).count());
  auto expected = shown;
  expected.erase(waiter.container);
  now.erase(waiter.container);
  EXPECT_EQ(now, expected);
  for (const auto& pod : pods) {
    EXPECT_EQ(pids_of(pod.container), pids[pod.container]);
    EXPECT_EQ(shim_of(pod.pod), shims[pod.pod]);
    EXPECT_EQ(must(cri().shell(pod.container, "echo works")), "works\n");
  }
  // After the end of the writers every line is there, once, in order, from before, during and after.
  for (const auto& pod : pods) {
    must(cri().stop(pod.container, 30));
    EXPECT_EQ(must(cri().status(pod.container)).exit_code(), 0);
    const auto lines = must(read_log(pod.config.log_directory() + "/main.log"));
    EXPECT_EQ(check_numbered(lines), "") << pod.config.metadata().name();
    EXPECT_GT(lines.size(), static_cast<std::size_t>(away().count()) * 900) << "1,000 lines a second";
  }
  must(cri().end_all());
  EXPECT_EQ(leftovers(host(), before_), "");
}

TEST_F(RecoveryTest, StatesOfEveryKindSurvive) {
  const auto running = start("running", host().shell_config("main", "exec sleep 1000"));
  const auto created =
      must(cri().create(running.pod, host().shell_config("created", "echo started; exec sleep 1000"), running.config));
  const auto exited = must(cri().run(running.pod, host().shell_config("exited", "exit 3"), running.config));
  must(cri().wait_exited(exited));
  const auto stopped = start("stopped", host().shell_config("main", "exec sleep 1000"));
  must(cri().stop_pod(stopped.pod));
  const auto shown = everything();
  for (int i = 0; i < 3; ++i) {
    host().kill9_daemon();
    ASSERT_TRUE(ok(host().start_daemon()));
    EXPECT_EQ(everything(), shown);
  }
  EXPECT_TRUE(ok(cri().start(created)));
  EXPECT_EQ(must(cri().status(created)).state(), pb::CONTAINER_RUNNING);
  EXPECT_EQ(must(cri().shell(created, "echo works")), "works\n");
  must(cri().end_all());
  EXPECT_EQ(leftovers(host(), before_), "");
}

// Requests run into a daemon that is killed at random moments; whatever half-made things that leaves can be removed by
// the next daemon.
TEST_F(RecoveryTest, KilledAtRandomMomentsOfPodChurn) {
  std::mt19937 random(20261124);  // NOLINT(cert-msc51-cpp): the same moments each time
  for (int round = 0; round < 12; ++round) {
    SCOPED_TRACE(round);
    std::atomic<bool> over = false;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&over, round, t] {
        for (int i = 0; !over; ++i) {
          const auto config = host().pod_config("churn" + std::to_string(round * 10000 + t * 1000 + i));
          const auto pod = cri().run_pod(config);
          if (!pod) continue;
          const auto container = cri().run(*pod, host().shell_config("main", "exec sleep 1000"), config);
          if (container && i % 2 == 0) ignore(cri().stop(*container, 0), "the daemon may be dead");
          if (i % 3 != 0) ignore(cri().end_pod(*pod), "the daemon may be dead");
        }
      });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + random() % 250));
    host().kill9_daemon();
    over = true;
    for (auto& thread : threads) thread.join();
    ASSERT_TRUE(ok(host().start_daemon()));
    // What is shown is whole: a running container can be entered.
    pb::ContainerFilter filter;
    filter.mutable_state()->set_state(pb::CONTAINER_RUNNING);
    for (const auto& container : must(cri().containers(filter))) EXPECT_TRUE(ok(cri().shell(container.id(), "true")));
    if (round % 3 == 2) {
      must(cri().end_all());
      EXPECT_EQ(leftovers(host(), before_), "");
    }
  }
}

TEST_F(RecoveryTest, AShimThatIsKilledTakesItsContainersAlong) {
  const auto victim = start("victim", host().shell_config("main", "exec sleep 1000"));
  const auto other = start("other", host().shell_config("main", "exec sleep 1000"));
  const pid_t shim = shim_of(victim.pod);
  ASSERT_GT(shim, 0);
  ASSERT_EQ(::kill(shim, SIGKILL), 0);
  const auto status = must(cri().wait_exited(victim.container));
  EXPECT_EQ(status.exit_code(), 137);
  EXPECT_GT(status.finished_at(), 0);
  EXPECT_FALSE(status.message().empty());
  EXPECT_TRUE(wait_until(std::chrono::seconds(20),
                         [&] { return must(cri().pod_status(victim.pod)).state() == pb::SANDBOX_NOTREADY; }));
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [&] { return pids_of(victim.container).empty(); }));
  EXPECT_FALSE(cri().exec(victim.container, {"true"}));
  EXPECT_FALSE(cri().create(victim.pod, host().shell_config("late", "true"), victim.config));
  EXPECT_EQ(must(cri().shell(other.container, "echo works")), "works\n");
  must(cri().end_all());
  EXPECT_EQ(leftovers(host(), before_), "");
}

TEST_F(RecoveryTest, AShimThatDiedWithoutADaemonIsNoticed) {
  const auto victim = start("victim", host().shell_config("main", "exec sleep 1000"));
  const auto other = start("other", host().shell_config("main", "exec sleep 1000"));
  const pid_t shim = shim_of(victim.pod);
  ASSERT_GT(shim, 0);
  host().kill9_daemon();
  ASSERT_EQ(::kill(shim, SIGKILL), 0);
  EXPECT_TRUE(wait_until(std::chrono::seconds(20), [&] { return pids_of(victim.container).empty(); }));
  ASSERT_TRUE(ok(host().start_daemon()));
  EXPECT_EQ(must(cri().wait_exited(victim.container)).exit_code(), 137);
  EXPECT_EQ(must(cri().pod_status(victim.pod)).state(), pb::SANDBOX_NOTREADY);
  EXPECT_EQ(must(cri().pod_status(other.pod)).state(), pb::SANDBOX_READY);
  // Its pod can be made again at once, by the next attempt.
  auto again = victim.config;
  again.mutable_metadata()->set_attempt(1);
  EXPECT_TRUE(ok(cri().run_pod(again)));
  must(cri().end_all());
  EXPECT_EQ(leftovers(host(), before_), "");
}

TEST_F(RecoveryTest, APodWhoseContainerDiesOfItselfStaysReady) {
  const auto pod = start("steady", host().shell_config("main", "exec sleep 1000"));
  const auto pids = pids_of(pod.container);
  ASSERT_EQ(pids.size(), 1U);
  // The first process of a pid namespace ignores every signal it has no handler for, but this one (pid_namespaces(7)).
  ASSERT_EQ(::kill(pids[0], SIGKILL), 0);
  EXPECT_EQ(must(cri().wait_exited(pod.container)).exit_code(), 128 + SIGKILL);
  EXPECT_EQ(must(cri().pod_status(pod.pod)).state(), pb::SANDBOX_READY);
  auto again = host().shell_config("main", "exec sleep 1000");
  again.mutable_metadata()->set_attempt(1);
  EXPECT_TRUE(ok(cri().run(pod.pod, again, pod.config)));
}

TEST_F(RecoveryTest, TwoDaemonsDoNotShareAState) {
  const auto ran =
      must(run_program({TestHost::program("berthd"), "--config", host().dir() + "/config.toml", "--root", host().root(),
                        "--state", host().state(), "--listen", host().dir() + "/second.sock"}));
  EXPECT_EQ(ran.code, 1);
  EXPECT_NE(ran.err.find("another berthd"), std::string::npos) << ran.err;
  EXPECT_TRUE(ok(cri().call(&Runtime::Version, pb::VersionRequest())));
}

}  // namespace
}  // namespace berth::test
