// Many containers, one after the other and at once, and berth-oci killed at every one of its system calls: nothing is
// left.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "base/strings.h"
#include "os/cgroup.h"
#include "os/file.h"
#include "peer_host.h"
#include "wait.h"

namespace berth::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::size_t kLimit = 4U << 20;

/// What containers could leave and can be told apart from others' on the machine.
struct Traces {
  std::string mounts;
  std::vector<std::string> cgroups;
};

class ChurnTest : public ::testing::Test {
 protected:
  void SetUp() override {
    static int counter = 0;
    name_ = "berth-test-" + std::to_string(::getpid()) + "-churn" + std::to_string(++counter);
    folder_ = "/tmp/" + name_;
    ASSERT_TRUE(os::make_dirs(folder_).has_value());
    ASSERT_EQ(::mount("berth-test", folder_.c_str(), "tmpfs", MS_NOSUID, "mode=755"), 0);
    for (const char* below : {"/rootfs/bin", "/rootfs/proc", "/rootfs/dev", "/rootfs/sys"})
      ASSERT_TRUE(os::make_dirs(folder_ + below).has_value());
    const Ran made = must({"sh", "-c",
                           "cp /bin/busybox \"$0\"/rootfs/bin && ln -s busybox \"$0\"/rootfs/bin/sleep && "
                           "ln -s busybox \"$0\"/rootfs/bin/true && cd \"$0\" && \"$1\" spec",
                           folder_, berth()});
    ASSERT_EQ(made.code, 0) << made.err;
    std::string config = os::read_file(folder_ + "/config.json", kLimit).value_or("");
    replace(config, R"("terminal": true)", R"("terminal": false)");
    replace(config, R"("sh")", R"("/bin/sleep", "1000")");
    // All below one cgroup of the test's.
    replace(config, R"("linux": {)", R"("linux": { "cgroupsPath": "/)" + name_ + R"(/one",)");
    ASSERT_THAT(config, HasSubstr(name_));
    ASSERT_TRUE(os::write_file_atomic(folder_ + "/config.json", config).has_value());
  }
  void TearDown() override {
    const auto layout = os::find_cgroups("/sys/fs/cgroup");
    ASSERT_TRUE(layout.has_value());
    for (const auto& hierarchy : layout->hierarchies)
      EXPECT_TRUE(os::remove_cgroup(hierarchy.root.get(), "/" + name_).has_value());
    EXPECT_EQ(::umount2(folder_.c_str(), MNT_DETACH), 0);
    EXPECT_TRUE(os::remove_tree(folder_).has_value());
  }
  static void replace(std::string& text, std::string_view from, const std::string& to) {
    const auto at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
  }
  static std::string berth() { return runtimes().front().path; }
  static Ran must(std::vector<std::string> words) {
    auto ran = run_program(std::move(words));
    EXPECT_TRUE(ran.has_value()) << (ran ? "" : ran.error().text());
    return ran ? std::move(*ran) : Ran{-1, "", ""};
  }
  /// A bundle whose container has a cgroup of its own: the same root, a config.json with another path.
  std::string bundle(const std::string& id) {
    const std::string at = folder_ + "/bundle-" + id;
    EXPECT_TRUE(os::make_dirs(at).has_value());
    std::string config = os::read_file(folder_ + "/config.json", kLimit).value_or("");
    replace(config, "/" + name_ + "/one", "/" + name_ + "/" + id);
    replace(config, R"("path": "rootfs")", R"("path": ")" + folder_ + R"(/rootfs")");
    EXPECT_TRUE(os::write_file_atomic(at + "/config.json", config).has_value());
    return at;
  }
  [[nodiscard]] std::vector<std::string> words(std::vector<std::string> more) const {
    more.insert(more.begin(), {berth(), "--root", folder_ + "/state"});
    return more;
  }
  Ran oci(std::vector<std::string> more) { return must(words(std::move(more))); }
  /// For create: a shell that gives it no pipe of ours, which the container would keep open.
  Ran create(const std::string& bundle_path, const std::string& id) {
    return must({"sh", "-c", "\"$0\" --root \"$1\" create --bundle \"$2\" \"$3\" </dev/null >/dev/null 2>\"$2\"/err",
                 berth(), folder_ + "/state", bundle_path, id});
  }
  [[nodiscard]] std::vector<std::string> states() const {
    return os::list_dir(folder_ + "/state").value_or(std::vector<std::string>());
  }
  [[nodiscard]] Traces look() const {
    Traces traces;
    traces.mounts = os::read_file("/proc/self/mountinfo", kLimit).value_or("");
    const auto layout = os::find_cgroups("/sys/fs/cgroup");
    if (layout) {
      for (const auto& hierarchy : layout->hierarchies) {
        for (const auto& child :
             os::child_cgroups(hierarchy.root.get(), "/" + name_).value_or(std::vector<std::string>()))
          traces.cgroups.push_back(hierarchy.name + "/" + child);
      }
    }
    return traces;
  }
  /// Init is taken down by the kernel a little after the delete; network namespaces go with the last process.
  void expect_nothing_new(const Traces& before, const std::string& when) {
    EXPECT_THAT(states(), IsEmpty()) << when;
    EXPECT_TRUE(wait_until(std::chrono::seconds(20), [this] { return no_process_of_ours(); })) << when;
    const Traces now = look();
    EXPECT_EQ(now.mounts, before.mounts) << when;
    EXPECT_EQ(now.cgroups, before.cgroups) << when;
  }
  /// Processes of ours: in one of the test's cgroups, or with its state folder among their arguments, as init has
  /// before exec.
  bool no_process_of_ours() const {
    for (const auto& entry : os::list_dir("/proc").value_or(std::vector<std::string>())) {
      const auto pid = parse_number<pid_t>(entry);
      if (!pid) continue;
      const auto line = os::read_file("/proc/" + entry + "/cmdline", kLimit).value_or("");
      if (line.find(folder_ + "/state") != std::string::npos) return false;
      const auto groups = os::read_file("/proc/" + entry + "/cgroup", kLimit).value_or("");
      if (groups.find("/" + name_ + "/") != std::string::npos) return false;
    }
    return true;
  }

  std::string name_;
  std::string folder_;
};

TEST_F(ChurnTest, AThousandOneAfterTheOtherLeaveNothing) {
  constexpr int kCycles = 1000;
  const std::string at = bundle("cycle");
  const Traces before = look();
  for (int i = 0; i < kCycles && !HasFailure(); ++i) {
    const std::string id = "cycle-" + std::to_string(i);
    ASSERT_EQ(create(at, id).code, 0) << os::read_file(at + "/err", kLimit).value_or("");
    ASSERT_EQ(oci({"start", id}).code, 0);
    ASSERT_EQ(oci({"delete", "--force", id}).code, 0);
  }
  expect_nothing_new(before, "after all cycles");
}

TEST_F(ChurnTest, TwoHundredAtOnceLeaveNothing) {
  static constexpr int kContainers = 200;
  static constexpr int kThreads = 20;
  std::vector<std::string> bundles;
  for (int i = 0; i < kContainers; ++i) bundles.push_back(bundle("p" + std::to_string(i)));
  const Traces before = look();
  std::atomic<int> failures = 0;
  std::atomic<int> running = 0;
  const auto each = [&](const auto& action) {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&action, t] {
        for (int i = t; i < kContainers; i += kThreads) action(i);
      });
    }
  };
  each([&](int i) {
    const std::string id = "p" + std::to_string(i);
    const bool up = create(bundles[static_cast<std::size_t>(i)], id).code == 0 && oci({"start", id}).code == 0;
    (up ? running : failures) += 1;
  });
  EXPECT_EQ(running, kContainers);
  EXPECT_EQ(states().size(), static_cast<std::size_t>(kContainers));
  EXPECT_GE(oci({"list", "--quiet"}).out.size(), 3U * kContainers);
  each([&](int i) { failures += oci({"delete", "--force", "p" + std::to_string(i)}).code == 0 ? 0 : 1; });
  EXPECT_EQ(failures, 0);
  expect_nothing_new(before, "after all at once");
}

/// Starts a program traced, without input or output.
pid_t start_traced(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) {
    const int null = ::open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  int status = 0;
  if (::waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) return -1;
  return pid;
}

constexpr int kCallStop = SIGTRAP | 0x80;  // by PTRACE_O_TRACESYSGOOD

/// Lets `words` make `calls` system calls and kills it before the next; what it forked runs on, as after any kill.
/// False when it ended before.
bool kill_after(const std::vector<std::string>& words, int calls) {
  const pid_t pid = start_traced(words);
  ::ptrace(PTRACE_SETOPTIONS, pid, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  int status = 0;
  int begun = 0;
  bool entering = true;
  while (::ptrace(PTRACE_SYSCALL, pid, nullptr, nullptr) == 0 && ::waitpid(pid, &status, 0) == pid &&
         WIFSTOPPED(status)) {
    if (WSTOPSIG(status) != kCallStop) continue;
    if (entering && begun++ == calls) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, &status, 0);
      return true;
    }
    entering = !entering;
  }
  return false;
}

struct InitKill {
  bool killed = false;
  int code = -1;  ///< of create
};

/// The same with the process that create makes, which is to become the container's; create sees to its end by itself.
InitKill kill_init_after(const std::vector<std::string>& words, int calls) {
  const pid_t parent = start_traced(words);
  ::ptrace(PTRACE_SETOPTIONS, parent, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK);
  ::ptrace(PTRACE_CONT, parent, nullptr, nullptr);
  InitKill result;
  pid_t init = 0;
  int begun = 0;
  bool entering = true;
  int status = 0;
  for (pid_t pid = 0; (pid = ::waitpid(-1, &status, __WALL)) > 0;) {
    if (pid == parent && !WIFSTOPPED(status)) break;
    if (!WIFSTOPPED(status)) continue;
    if (pid == parent) {
      ::ptrace(PTRACE_CONT, pid, nullptr, nullptr);
      continue;
    }
    init = pid;
    if (WSTOPSIG(status) == kCallStop) {
      if (entering && begun++ == calls) {
        result.killed = true;
        ::kill(pid, SIGKILL);
        continue;
      }
      entering = !entering;
    }
    ::ptrace(PTRACE_SYSCALL, pid, nullptr, nullptr);
  }
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (init > 0 && !result.killed) {
    // It waits for the start; traced by us, it must be seen to its end by us.
    ::kill(init, SIGKILL);
    ::waitpid(init, &status, __WALL);
  }
  return result;
}

TEST_F(ChurnTest, KilledBeforeAnyOfItsCallsItCanBeDeleted) {
  const std::string at = bundle("killed");
  const Traces before = look();
  constexpr int kMostCalls = 2000;
  int call = 0;
  for (; call < kMostCalls && !HasFailure(); ++call) {
    const bool killed = kill_after(words({"create", "--bundle", at, "killed"}), call);
    const Ran deleted = oci({"delete", "--force", "killed"});
    ASSERT_EQ(deleted.code, 0) << "killed before call " << call << ": " << deleted.err;
    ASSERT_THAT(states(), IsEmpty()) << "killed before call " << call;
    if (call % 20 == 0) expect_nothing_new(before, "killed before call " + std::to_string(call));
    if (!killed) break;
  }
  EXPECT_GT(call, 100) << "that is not the whole of create";
  EXPECT_LT(call, kMostCalls);
  RecordProperty("calls", call);
  expect_nothing_new(before, "after all kills");
}

TEST_F(ChurnTest, InitKilledBeforeAnyOfItsCallsIsAFailedCreate) {
  const std::string at = bundle("killed");
  const Traces before = look();
  constexpr int kMostCalls = 2000;
  int call = 0;
  for (; call < kMostCalls && !HasFailure(); ++call) {
    const InitKill made = kill_init_after(words({"create", "--bundle", at, "killed"}), call);
    const std::string when = "init killed before call " + std::to_string(call);
    // Its last call is the wait for the start: by then create may have done its part, and a container that died is
    // left.
    if (!made.killed || made.code == 0) {
      EXPECT_EQ(made.code, 0) << when;
      EXPECT_EQ(oci({"delete", "killed"}).code, 0) << when;
    } else {
      EXPECT_EQ(made.code, 1) << when;
    }
    ASSERT_THAT(states(), IsEmpty()) << when;
    if (call % 20 == 0) expect_nothing_new(before, when);
    if (!made.killed) break;
  }
  EXPECT_GT(call, 100) << "that is not the whole of its set-up";
  EXPECT_LT(call, kMostCalls);
  RecordProperty("calls", call);
  expect_nothing_new(before, "after all kills");
}

}  // namespace
}  // namespace berth::test
