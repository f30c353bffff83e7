// Pods below a containerd shim of another maker: what it does of itself, and what is left of a pod when it dies, hangs
// or lies.
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/strings.h"
#include "fixture.h"
#include "wait.h"

namespace berth::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr const char* kShim = "/usr/bin/containerd-shim-runc-v2";
constexpr std::chrono::seconds kPatience{20};

struct WithForeignShim {
  static TestHostOptions options() {
    return {.config = "[handlers.berth]\nengine = \"process\"\n[handlers.runc-shim]\nshim = \"" + std::string(kShim) +
                      "\"\n"};
  }
};

class ForeignShimTest : public HostTest<WithForeignShim> {
 protected:
  void SetUp() override {
    HostTest::SetUp();
    if (HasFatalFailure()) return;
    if (!os::exists(kShim)) GTEST_SKIP() << kShim << " is not here";
    config_ = host().pod_config("pod");
    pod_ = must(cri().run_pod(config_, "runc-shim"));
    other_config_ = host().pod_config("other");
    other_ = must(cri().run_pod(other_config_, "berth"));
    bystander_ = must(cri().run(other_, host().shell_config("bystander", "exec sleep 1000"), other_config_));
  }
  void TearDown() override {
    // Whatever a test has stopped must not outlive it.
    for (const pid_t pid : programs(kShim)) ::kill(pid, SIGCONT);
    HostTest::TearDown();
    if (IsSkipped()) return;
    EXPECT_TRUE(wait_until(kPatience, [&] { return programs(kShim).empty(); }));
    EXPECT_THAT(os::list_dir(host().state() + "/pods").value_or(std::vector<std::string>{"?"}), IsEmpty());
    EXPECT_THAT(os::list_dir("/run/containerd/runc/berth").value_or(std::vector<std::string>()), IsEmpty());
  }
  std::string run(const std::string& script, const std::string& name = "main") {
    return must(cri().run(pod_, host().shell_config(name, script), config_));
  }
  static std::string log(const std::string& name = "main") {
    std::ifstream in(host().logs("pod") + "/" + name + ".log");
    return {std::istreambuf_iterator<char>(in), {}};
  }
  /// Processes of `program` whose arguments name a path below this host's folder.
  static std::vector<pid_t> programs(const std::string& program) {
    std::vector<pid_t> pids;
    for (const auto& entry : os::list_dir("/proc").value_or(std::vector<std::string>())) {
      const auto command = os::read_file("/proc/" + entry + "/cmdline", 65536).value_or("");
      if (command.starts_with(program + '\0') && command.find(host().dir()) != std::string::npos) {
        pids.push_back(parse_number<pid_t>(entry).value_or(0));
      }
    }
    return pids;
  }
  static pid_t parent_of(pid_t pid) {
    const auto text = os::read_file("/proc/" + std::to_string(pid) + "/stat", 4096).value_or("0 () S 0 ");
    // PID (NAME) STATE PPID
    return parse_number<pid_t>(split(std::string_view(text).substr(text.rfind(')') + 2), ' ').at(1)).value_or(0);
  }
  static pid_t the_shim() {
    auto pids = programs(kShim);
    // What it has forked is called the same until it executes its own program.
    std::erase_if(pids, [all = pids](pid_t pid) { return std::ranges::find(all, parent_of(pid)) != all.end(); });
    if (pids.size() != 1) throw Stop("there are " + std::to_string(pids.size()) + " shims");
    return pids.front();
  }
  void expect_bystander_well() const { EXPECT_EQ(must(cri().shell(bystander_, "echo well")), "well\n"); }

  pb::PodSandboxConfig config_;
  pb::PodSandboxConfig other_config_;
  std::string pod_;
  std::string other_;
  std::string bystander_;
};

TEST_F(ForeignShimTest, OneHoldsAllContainersOfAPodWithoutAPauseProcess) {
  EXPECT_THAT(programs(kShim), IsEmpty()) << "before the first container";
  const auto first = run("exit 4", "first");
  EXPECT_EQ(must(cri().wait_exited(first)).exit_code(), 4);
  const pid_t shim = the_shim();
  must(cri().remove(first));
  // The one that it was started for is gone; it is of use all the same.
  const auto second = run("exec sleep 1000", "second");
  const auto third = run("exec sleep 1000", "third");
  EXPECT_EQ(the_shim(), shim);
  EXPECT_EQ(must(cri().shell(second, "echo 2")), "2\n");
  EXPECT_EQ(must(cri().shell(third, "ps | grep -c '[p]ause' || true")), "0\n");
  must(cri().end_pod(pod_));
  EXPECT_TRUE(wait_until(kPatience, [&] { return programs(kShim).empty(); }));
}

TEST_F(ForeignShimTest, NoOutputIsLostAtAnEnd) {
  const auto id = run("seq 1 50000; echo last >&2", "main");
  EXPECT_EQ(must(cri().wait_exited(id)).exit_code(), 0);
  // Complete by the time that the end is told.
  const std::string text = log();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 50001);
  EXPECT_THAT(text, HasSubstr(" stdout F 50000\n"));
  EXPECT_THAT(text, HasSubstr(" stderr F last\n"));
  const auto idle = run("exec sleep 1000", "idle");
  for (int i = 0; i < 10; ++i) {
    EXPECT_THAT(must(cri().exec(idle, {"sh", "-c", "head -c 300000 /dev/zero"})).stdout(), SizeIs(300000));
  }
  // Who holds the output after the command has ended is not waited for.
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(must(cri().shell(idle, "sleep 300 & echo begun")), "begun\n");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST_F(ForeignShimTest, AnEndWithoutTheDaemonIsKept) {
  const auto id = run("while test ! -e /tmp/go; do sleep 0.02; done; exit 6");
  must(cri().shell(id, "(sleep 0.5; touch /tmp/go) >/dev/null 2>&1 &"));
  host().kill9_daemon();
  std::this_thread::sleep_for(std::chrono::seconds(1));  // the container ends meanwhile: nobody announces it to us
  ASSERT_TRUE(ok(host().start_daemon()));
  const auto status = must(cri().wait_exited(id));
  EXPECT_EQ(status.exit_code(), 6);
  EXPECT_LT(status.finished_at() - status.started_at(), 1'500'000'000);
  const auto next = run("exec sleep 1000", "next");
  EXPECT_EQ(must(cri().shell(next, "echo on")), "on\n");
}

TEST_F(ForeignShimTest, OneThatIsKilledTakesItsContainersAndIsReplaced) {
  const auto id = run("exec sleep 1000");
  const auto second = run("exec sleep 1000", "second");
  ASSERT_EQ(::kill(the_shim(), SIGKILL), 0);
  EXPECT_EQ(must(cri().wait_exited(id)).exit_code(), 137);
  EXPECT_EQ(must(cri().wait_exited(second)).exit_code(), 137);
  expect_bystander_well();
  // What a kubelet does: the next attempt in the same pod.
  must(cri().remove(id));
  const auto next = run("exec sleep 1000", "next");
  EXPECT_EQ(must(cri().shell(next, "echo on")), "on\n");
  must(cri().remove(second));
  EXPECT_EQ(must(cri().shell(next, "echo on")), "on\n");
}

TEST_F(ForeignShimTest, OneThatHangsIsNamedAndKeepsNobody) {
  const auto id = run("trap 'exit 5' TERM; while :; do sleep 0.05; done");
  const pid_t shim = the_shim();
  must(stop_threads(shim));
  EXPECT_TRUE(fails(cri().exec(id, {"true"}), Code::kUnavailable, "containerd-shim-runc-v2 Exec: no answer within"));
  expect_bystander_well();
  must(cri().stop(id, 20));
  // The signal went by us, and the code is its own although the shim never told it.
  EXPECT_EQ(must(cri().status(id)).exit_code(), 5);
  must(cri().end_pod(pod_));
  expect_bystander_well();
}

TEST_F(ForeignShimTest, OursThatIsKilledLeavesNoneOfIt) {
  const auto id = run("exec sleep 1000");
  const pid_t ours = parent_of(the_shim());
  ASSERT_GT(ours, 1);
  ASSERT_THAT(os::read_file("/proc/" + std::to_string(ours) + "/cmdline", 65536).value_or(""), HasSubstr(pod_));
  ASSERT_EQ(::kill(ours, SIGKILL), 0);
  EXPECT_EQ(must(cri().wait_exited(id)).exit_code(), 137);
  EXPECT_THAT(programs(kShim), IsEmpty());
  expect_bystander_well();
}

TEST_F(ForeignShimTest, OneThatWasNotNotedYetIsFoundAllTheSame) {
  const auto id = run("exec sleep 1000");
  const pid_t ours = parent_of(the_shim());
  ASSERT_GT(ours, 1);
  // As if ours had been killed between the other's start and the note of it.
  ASSERT_TRUE(ok(os::remove_file(host().state() + "/pods/" + pod_ + "/foreign/shim")));
  ASSERT_EQ(::kill(ours, SIGKILL), 0);
  EXPECT_EQ(must(cri().wait_exited(id)).exit_code(), 137);
  EXPECT_THAT(programs(kShim), IsEmpty());
  expect_bystander_well();
}

/// Programs that are no shims, in the place of one.
class FalseShimTest : public ForeignShimTest {
 protected:
  void TearDown() override {
    ForeignShimTest::TearDown();
    if (!os::exists(drop_in())) return;
    EXPECT_TRUE(ok(os::remove_file(drop_in())));
    ASSERT_TRUE(ok(host().stop_daemon()));
    ASSERT_TRUE(ok(host().start_daemon()));
    EXPECT_TRUE(wait_until(kPatience, [&] { return false_shims() == 0; }));
  }
  static std::size_t false_shims() {
    std::size_t count = 0;
    for (const auto& entry : os::list_dir("/proc").value_or(std::vector<std::string>())) {
      count += os::read_file("/proc/" + entry + "/cmdline", 65536).value_or("").starts_with(host().dir() + "/false-");
    }
    return count;
  }
  static std::string drop_in() { return host().dir() + "/config.d/false.toml"; }
  /// Makes a shim of this `kind` the handler "false": `script`, or if empty a program that lies. The daemon is started
  /// again for it.
  static void make(const std::string& kind, const std::string& script) {
    const std::string path = host().dir() + "/false-" + kind;
    if (script.empty()) {
      std::filesystem::create_symlink(BERTH_FALSE_SHIM, path);
    } else {
      must(os::write_file_atomic(path, "#!/bin/sh\nfor last; do :; done\n" + script, 0755));
    }
    must(os::make_dirs(host().dir() + "/config.d"));
    must(os::write_file_atomic(drop_in(), "[handlers.false]\nshim = \"" + path + "\"\n"));
    must(host().stop_daemon());
    must(host().start_daemon());
  }
  void expect_refused(Code code, const std::string& words) {
    const auto config = host().pod_config("false");
    const auto pod = must(cri().run_pod(config, "false"));
    EXPECT_TRUE(fails(cri().create(pod, host().shell_config("main", "true"), config), code, words));
    must(cri().end_pod(pod));
    expect_bystander_well();
  }
};

TEST_F(FalseShimTest, IsTold) {
  make("shim", "echo out of order >&2; exit 3");
  expect_refused(Code::kUnavailable, "false-shim start: exit code 3: out of order");
  make("shim", "echo garbage; sleep 1000 &");
  expect_refused(Code::kUnavailable, "false-shim start: it has left no process of the same program");
  make("shim", "exit 0");
  expect_refused(Code::kUnavailable, "false-shim start: it has left no process of the same program");
}

TEST_F(FalseShimTest, ThatLiesIsNotBelieved) {
  make("pid", "");
  expect_refused(Code::kCorrupt, "the shim tells pid 1, which is not in the container's cgroup");
  make("noise", "");
  expect_refused(Code::kCorrupt, "false-noise Create: frame length");
  make("leaver", "");
  expect_refused(Code::kUnavailable, "false-leaver Create: it has closed the connection");
}

TEST_F(FalseShimTest, ThatIsDeafIsNamedAndGone) {
  make("deaf", "");
  expect_refused(Code::kUnavailable, "false-deaf Create: no answer within 30000 ms");
}

TEST_F(FalseShimTest, WhatRuncIsToDoReachesIt) {
  const std::string kept = host().dir() + "/kept";
  must(os::make_dirs(host().dir() + "/config.d"));
  must(os::write_file_atomic(drop_in(), "[handlers.false]\nshim = \"" + std::string(kShim) +
                                            "\"\nbinary = \"/usr/sbin/runc\"\nroot = \"" + kept + "\"\n"));
  must(host().stop_daemon());
  must(host().start_daemon());
  const auto config = host().pod_config("false");
  const auto pod = must(cri().run_pod(config, "false"));
  const auto id = must(cri().run(pod, host().shell_config("main", "exec sleep 1000"), config));
  EXPECT_TRUE(os::exists(kept + "/berth/" + id + "/state.json"));
  must(cri().end_pod(pod));
  EXPECT_FALSE(os::exists(kept + "/berth/" + id));
}

}  // namespace
}  // namespace berth::test
