// Shims that are stopped and volumes that hang delay nobody but their own pods, and those can be taken down.
#include <signal.h>
#include <sys/mount.h>

#include <map>

#include "base/strings.h"
#include "fixture.h"
#include "os/file.h"
#include "wait.h"

namespace berth::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

struct Plain {
  static TestHostOptions options() { return {.config = "[runtime]\nstats_period_s = 1\n"}; }
};

// A mounted file system whose server is ours to stop and end (hanging_fuse.cc).
class HangingVolume {
 public:
  explicit HangingVolume(const std::string& dir) : dir_(dir + "/volume"), log_(dir + "/volume.log") {}
  HangingVolume(const HangingVolume&) = delete;
  HangingVolume& operator=(const HangingVolume&) = delete;
  HangingVolume(HangingVolume&&) = delete;
  HangingVolume& operator=(HangingVolume&&) = delete;
  ~HangingVolume() { end(); }
  /// "" or why it cannot be.
  std::string mount() {
    must(os::make_dirs(dir_));
    must(os::remove_file(log_));  // of the volume before
    server_ = must(Process::start({TestHost::bin_dir() + "/../tests/hanging_fuse", dir_}, log_));
    const bool serves = wait_until(seconds(10), [this] { return !server_.alive() || text().find("serves") == 0; });
    return serves && server_.alive() ? "" : "hanging_fuse: " + text();
  }
  [[nodiscard]] bool has_a_reader() const { return text().find("read") != std::string::npos; }
  void stop() { must(server_.signal(SIGSTOP)); }
  void end() {
    if (!server_.alive()) return;
    server_.kill();
    EXPECT_EQ(::umount2(dir_.c_str(), MNT_DETACH), 0);
  }
  [[nodiscard]] const std::string& dir() const { return dir_; }

 private:
  [[nodiscard]] std::string text() const { return os::read_file(log_, 4096).value_or(""); }
  const std::string dir_;
  const std::string log_;
  Process server_;
};

class StalledTest : public HostTest<Plain> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    before_ = look(host());  // no pod, no bridge: every test ends as it has begun
  }
  void TearDown() override {
    for (const pid_t pid : stopped_) ::kill(pid, SIGCONT);  // those that a failed test has left
    HostTest::TearDown();
  }
  static Running start(const std::string& name, const std::string& volume = "",
                       const std::string& script = "exec sleep 1000") {
    auto config = host().shell_config("main", script);
    if (!volume.empty()) {
      config.add_mounts()->set_host_path(volume);
      config.mutable_mounts(0)->set_container_path("/volume");
    }
    return HostTest::start(name, config);
  }
  void stop_shim(const std::string& pod) {
    const pid_t pid = shim_of(pod);
    ASSERT_GT(pid, 0) << "no shim of " << pod;
    stopped_.push_back(pid);
    must(stop_threads(pid));
  }
  // Every read of the CRI once; how long each took that took longest.
  static std::map<std::string, milliseconds> read_everything(const std::vector<Running>& pods) {
    std::map<std::string, milliseconds> longest;
    const auto timed = [&longest](const std::string& name, auto call) {
      const auto begun = steady_clock::now();
      EXPECT_TRUE(ok(call())) << name;
      const auto took = std::chrono::duration_cast<milliseconds>(steady_clock::now() - begun);
      longest[name] = std::max(longest[name], took);
    };
    timed("Version", [] { return cri().call(&Runtime::Version, pb::VersionRequest()); });
    timed("Status", [] { return cri().call(&Runtime::Status, pb::StatusRequest()); });
    timed("ListPodSandbox", [] { return cri().pods(); });
    timed("ListContainers", [] { return cri().containers(); });
    timed("ListContainerStats",
          [] { return cri().call(&Runtime::ListContainerStats, pb::ListContainerStatsRequest()); });
    timed("ListImages", [] { return cri().call(&Images::ListImages, pb::ListImagesRequest()); });
    timed("ImageFsInfo", [] { return cri().call(&Images::ImageFsInfo, pb::ImageFsInfoRequest()); });
    for (const auto& pod : pods) {
      timed("PodSandboxStatus", [&] { return cri().pod_status(pod.pod); });
      timed("ContainerStatus", [&] { return cri().status(pod.container); });
      pb::ContainerStatsRequest stats;
      stats.set_container_id(pod.container);
      timed("ContainerStats", [&] { return cri().call(&Runtime::ContainerStats, stats); });
    }
    return longest;
  }

  HostState before_;
  std::vector<pid_t> stopped_;
};

TEST_F(StalledTest, StoppedShimsDelayNobodyElse) {
  HangingVolume volume(host().dir());
  if (const auto why = volume.mount(); !why.empty()) GTEST_SKIP() << why;
  std::vector<Running> pods;
  for (int i = 0; i < 20; ++i) pods.push_back(start("pod" + std::to_string(i), i == 0 ? volume.dir() : ""));
  volume.stop();
  for (const std::size_t i : {3U, 4U, 5U}) stop_shim(pods[i].pod);
  // Longer than a round of statistics, so that the stopped ones have been asked in vain.
  const auto end = steady_clock::now() + seconds(3);
  while (steady_clock::now() < end) {
    for (const auto& [name, took] : read_everything(pods)) EXPECT_LT(took, seconds(2)) << name;
  }
  EXPECT_EQ(must(cri().shell(pods[1].container, "echo works")), "works\n");
  const auto begun = steady_clock::now();
  EXPECT_TRUE(ok(cri().stop(pods[1].container, 0)));
  EXPECT_TRUE(ok(cri().end_pod(pods[1].pod)));
  EXPECT_TRUE(ok(cri().end_pod(start("new").pod)));
  EXPECT_LT(steady_clock::now() - begun, seconds(10));
  // A restarted daemon keeps them, and one that runs again is used again.
  host().kill9_daemon();
  ASSERT_TRUE(ok(host().start_daemon()));
  EXPECT_EQ(must(cri().pod_status(pods[3].pod)).state(), pb::SANDBOX_READY);
  ASSERT_EQ(::kill(stopped_[0], SIGCONT), 0);
  EXPECT_EQ(must(cri().shell(pods[3].container, "echo works")), "works\n");
  volume.end();
  for (const auto& pod : pods) EXPECT_TRUE(ok(cri().end_pod(pod.pod)));
  EXPECT_EQ(leftovers(host(), before_), "");
}

TEST_F(StalledTest, APodWhoseShimIsStoppedIsTakenDown) {
  for (const bool restart : {false, true}) {
    SCOPED_TRACE(restart ? "after a restart of the daemon" : "by the same daemon");
    const auto pod = start("stopped");
    // One whose containers have all ended, and one that still has some.
    const auto ended = start("ended", "", "exit 3");
    must(cri().wait_exited(ended.container));
    stop_shim(pod.pod);
    stop_shim(ended.pod);
    if (restart) {
      host().kill9_daemon();
      ASSERT_TRUE(ok(host().start_daemon()));
    }
    const auto begun = steady_clock::now();
    EXPECT_TRUE(ok(cri().stop_pod(pod.pod)));
    EXPECT_TRUE(ok(cri().stop_pod(ended.pod)));
    EXPECT_LT(steady_clock::now() - begun, seconds(40));
    EXPECT_EQ(must(cri().status(ended.container)).exit_code(), 3);
    const auto status = must(cri().status(pod.container));
    EXPECT_EQ(status.state(), pb::CONTAINER_EXITED);
    EXPECT_EQ(status.exit_code(), 137);
    EXPECT_TRUE(ok(cri().remove_pod(pod.pod)));
    EXPECT_TRUE(ok(cri().remove_pod(ended.pod)));
    EXPECT_EQ(leftovers(host(), before_), "");
  }
}

// sendfile() into the log's pipe, as busybox's cat does it, holds the pipe: then the shim that reads it is stuck as
// well.
TEST_F(StalledTest, AShimThatCannotBeKilledDoesNotKeepThePod) {
  HangingVolume volume(host().dir());
  if (const auto why = volume.mount(); !why.empty()) GTEST_SKIP() << why;
  const auto pod = start("dead", volume.dir(), "cat /volume/hang; sleep 1000");
  ASSERT_TRUE(wait_until(seconds(10), [&] { return volume.has_a_reader(); }));
  const auto begun = steady_clock::now();
  EXPECT_TRUE(ok(cri().stop_pod(pod.pod)));
  EXPECT_LT(steady_clock::now() - begun, seconds(60));
  EXPECT_TRUE(ok(cri().remove_pod(pod.pod)));
  EXPECT_TRUE(ok(cri().end_pod(start("new").pod)));
  volume.end();
  EXPECT_EQ(leftovers(host(), before_), "");
}

TEST_F(StalledTest, ATaskThatCannotBeKilledIsNamedAndDoesNotKeepThePod) {
  HangingVolume volume(host().dir());
  if (const auto why = volume.mount(); !why.empty()) GTEST_SKIP() << why;
  const auto clean = before_;
  const auto pod = start("dead", volume.dir(), "dd if=/volume/hang of=/dev/null; sleep 1000");
  ASSERT_TRUE(wait_until(seconds(10), [&] { return volume.has_a_reader(); }));
  auto begun = steady_clock::now();
  const auto refused = cri().stop(pod.container, 0);
  EXPECT_LT(steady_clock::now() - begun, seconds(20));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text().find("(dd) is in state D"), std::string::npos) << refused.error().text();
  begun = steady_clock::now();
  EXPECT_TRUE(ok(cri().stop_pod(pod.pod)));
  EXPECT_LT(steady_clock::now() - begun, seconds(45));
  EXPECT_TRUE(ok(cri().remove_pod(pod.pod)));
  EXPECT_TRUE(must(cri().pods()).empty());
  const auto berth = [](const std::string& command, const std::string& object = "") {
    std::vector<std::string> argv = {TestHost::program("berth"), "--address", host().socket(), command};
    if (!object.empty()) argv.push_back(object);
    const auto ran = must(run_program(argv));
    return ran.out + ran.err;
  };
  EXPECT_NE(berth("why", pod.pod).find("(dd) is in state D"), std::string::npos) << berth("why", pod.pod);
  EXPECT_NE(berth("fsck").find("(dd) is in state D"), std::string::npos) << berth("fsck");
  // It is remembered across a restart, and given back when the task has ended.
  host().kill9_daemon();
  ASSERT_TRUE(ok(host().start_daemon()));
  EXPECT_NE(berth("fsck").find("(dd) is in state D"), std::string::npos) << berth("fsck");
  volume.end();
  EXPECT_EQ(leftovers(host(), clean), "");
  EXPECT_EQ(berth("fsck").find("state D"), std::string::npos);
}

}  // namespace
}  // namespace berth::test
