// Exec probes in great number leave nothing behind: no process but what they left on purpose, no cgroup, no descriptor,
// no memory. BERTH_PROBES (1000) is how many there are; the bar is 10000.
#include <signal.h>

#include <algorithm>
#include <iostream>
#include <thread>

#include "figures.h"
#include "fixture.h"
#include "os/file.h"
#include "wait.h"

namespace berth::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned kWarmUp = 200;
// After so many, what they left running is counted and ended.
constexpr unsigned kPeriod = 100;
// A timeout is a second at least.
constexpr unsigned kTimeoutsEvery = 200;
// Pages that a heap holds more or less of by chance. One lost string of 32 bytes for each of 10000 is above it.
constexpr std::uint64_t kShimSlackKib = 128;
// The same for a heap that threads share.
constexpr std::uint64_t kDaemonSlackKib = 1024;

struct Plain {
  static TestHostOptions options() { return {}; }
};

class ProbeTest : public HostTest<Plain> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    const auto config = host().pod_config("probed");
    pod_ = must(cri().run_pod(config));
    // Its shell collects what is orphaned in the container, as an init ought to.
    container_ = must(cri().run(pod_, host().shell_config("main", "while :; do sleep 1; done"), config));
    shim_ = shim_of(pod_);
    ASSERT_GT(shim_, 0);
  }

  /// The container's processes with these arguments; all of them without.
  [[nodiscard]] std::vector<pid_t> pids_with(const std::string& arguments = "") const {
    std::vector<pid_t> found;
    for (const pid_t pid : processes_of(host())) {
      const std::string folder = "/proc/" + std::to_string(pid);
      if (!os::read_file(folder + "/cgroup", 65536).value_or("").contains(container_)) continue;
      auto command = os::read_file(folder + "/cmdline", 4096).value_or("");
      std::ranges::replace(command, '\0', ' ');
      if (command.contains(arguments)) found.push_back(pid);
    }
    return found;
  }

  void leave_one_behind(std::int64_t timeout_s) {
    const auto begin = Clock::now();
    EXPECT_EQ(must(cri().exec(container_, {"/bin/sh", "-c", "echo said; sleep 300 &"}, timeout_s)).stdout(), "said\n");
    EXPECT_LT(Clock::now() - begin, std::chrono::seconds(10)) << "it was waited for";
    ++left_behind_;
  }
  void time_out() {
    const auto late = cri().exec(container_, {"/bin/sh", "-c", "sleep 299 & sleep 299"}, 1);
    EXPECT_TRUE(fails(late, Code::kTimeout, "timed out after 1 s"));
    EXPECT_TRUE(wait_until(std::chrono::seconds(5), [this] { return pids_with("sleep 299").empty(); }));
  }
  void probe(unsigned number) {
    if (number % kTimeoutsEvery == kTimeoutsEvery - 1) return time_out();
    switch (number % 10) {
      case 1:
        EXPECT_EQ(must(cri().exec(container_, {"/bin/sh", "-c", "exit 3"})).exit_code(), 3);
        break;
      case 3:
        EXPECT_TRUE(fails(cri().exec(container_, {"/no/such/probe"}), Code::kInvalid, "/no/such/probe"));
        break;
      case 5:
        leave_one_behind(30);
        break;
      case 7:
        leave_one_behind(0);
        break;
      default:
        EXPECT_EQ(must(cri().exec(container_, {"/bin/true"})).exit_code(), 0);
    }
  }
  /// What was left in the container on purpose is there, and goes.
  void end_the_left_behind() {
    const auto pids = pids_with("sleep 300");
    EXPECT_EQ(pids.size(), left_behind_);
    for (const pid_t pid : pids) ::kill(pid, SIGKILL);
    EXPECT_TRUE(wait_until(std::chrono::seconds(10), [this] { return pids_with("sleep 300").empty(); }));
    left_behind_ = 0;
  }
  void run(unsigned count) {
    for (unsigned i = 0; i < count && !HasFailure(); ++i) {
      probe(i);
      if (i % kPeriod == kPeriod - 1) end_the_left_behind();
    }
    end_the_left_behind();
    // The ends of these remove what cgroups are left.
    for (unsigned i = 0; i < kPeriod; ++i) EXPECT_TRUE(ok(cri().exec(container_, {"/bin/true"})));
  }
  /// The figures of a process once it is idle: it gives pages back then.
  static Figures settled(pid_t pid) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    return figures_of(pid);
  }

  std::string pod_;
  std::string container_;
  pid_t shim_ = 0;
  std::size_t left_behind_ = 0;
};

TEST_F(ProbeTest, LeaveNoProcessDescriptorCgroupOrMemory) {
  run(kWarmUp);
  const auto processes = pids_with().size();
  const auto cgroups = cgroups_of(host());
  const auto shim = settled(shim_);
  const auto daemon = figures_of(host().daemon_pid());

  const unsigned count = setting("BERTH_PROBES", 1000);
  const auto begin = Clock::now();
  run(count);
  const std::chrono::duration<double> took = Clock::now() - begin;
  const auto shim_now = settled(shim_);
  const auto daemon_now = figures_of(host().daemon_pid());
  const auto cgroups_now = cgroups_of(host());

  std::cout << count << " probes in " << took.count() << " s; shim: " << shim.fds << " and " << shim_now.fds << " fds, "
            << shim.anonymous_kib << " and " << shim_now.anonymous_kib << " KiB allocated; daemon: " << daemon.fds
            << " and " << daemon_now.fds << " fds, " << daemon.anonymous_kib << " and " << daemon_now.anonymous_kib
            << " KiB; cgroups " << cgroups.size() << " and " << cgroups_now.size() << std::endl;
  // The shell starts another `sleep` each second; for an instant there is none.
  EXPECT_TRUE(wait_until(std::chrono::seconds(5), [&] { return pids_with().size() == processes; }))
      << pids_with().size() << " processes, before there were " << processes;
  EXPECT_EQ(difference({cgroups.begin(), cgroups.end()}, {cgroups_now.begin(), cgroups_now.end()}), "");
  EXPECT_EQ(shim_now.fds, shim.fds);
  EXPECT_LE(daemon_now.fds, daemon.fds);
  EXPECT_LE(shim_now.anonymous_kib, shim.anonymous_kib + kShimSlackKib);
  EXPECT_LE(daemon_now.anonymous_kib, daemon.anonymous_kib + kDaemonSlackKib);
}

}  // namespace
}  // namespace berth::test
