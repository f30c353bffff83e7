#include <gmock/gmock.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

#include <csignal>

#include "engine/process/test_container.h"

namespace berth::engine::process {
namespace {

using testing::EngineTest;
using ::testing::HasSubstr;
using testing::Outcome;

class ExecTest : public EngineTest {
 protected:
  /// A container that sleeps.
  std::unique_ptr<ProcessContainer> sleeper(spec::Spec spec) {
    auto container = create(std::move(spec));
    if (container != nullptr) {
      EXPECT_TRUE(container->start().has_value());
    }
    return container;
  }
  std::unique_ptr<ProcessContainer> sleeper() { return sleeper(script_spec("sleep 1000")); }

  Outcome exec(ProcessContainer& container, spec::Process process, const std::string& sub_cgroup = "") {
    Outcome outcome;
    auto pipe = os::make_pipe();
    ExecRequest request;
    request.process = std::move(process);
    request.stdio = {-1, pipe->write.get(), pipe->write.get()};
    request.sub_cgroup = sub_cgroup;
    auto started = container.exec(request);
    if (!started) {
      ADD_FAILURE() << started.error().text();
      return outcome;
    }
    pipe->write.reset();
    outcome.out = os::read_all(pipe->read.get(), 1U << 20).value_or("");
    outcome.code = os::reap_pidfd(started->pidfd.get()).value_or(-1);
    return outcome;
  }
  spec::Process script(const std::string& text) {
    auto process = *script_spec(text).process;
    return process;
  }
};

TEST_F(ExecTest, RunsInsideWithItsOwnIdentity) {
  auto container = sleeper();
  ASSERT_NE(container, nullptr);
  auto process = script(
      "hostname; ps | grep -c 'sleep 1000'; id -u; grep CapEff /proc/self/status; cat /proc/self/cgroup | grep -E "
      "'memory|pids|0::'; "
      "ls /proc/self/fd | wc -l; exit 9");
  process.user.uid = 1000;
  const auto outcome = exec(*container, process);
  EXPECT_THAT(outcome.out, HasSubstr("berth-test\n"));
  EXPECT_THAT(outcome.out, HasSubstr("\n1000\nCapEff:\t0000000000000000\n"));
  EXPECT_THAT(outcome.out, ::testing::AnyOf(HasSubstr("memory:/\n"), HasSubstr("0::/\n")));
  EXPECT_THAT(outcome.out, ::testing::EndsWith("\n4\n"));
  EXPECT_EQ(outcome.code, 9);
  finish(*container);
}

TEST_F(ExecTest, TheCallersPidNamespaceIsTheSameAfterwards) {
  struct stat before{};
  struct stat after{};
  ASSERT_EQ(::stat("/proc/self/ns/pid_for_children", &before), 0);
  auto container = sleeper();
  EXPECT_EQ(exec(*container, script("true")).code, 0);
  ASSERT_EQ(::stat("/proc/self/ns/pid_for_children", &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  finish(*container);
}

TEST_F(ExecTest, FailuresAreTold) {
  auto container = sleeper();
  ExecRequest request;
  request.process = script("true");
  request.process.args = {"nosuch"};
  const auto missing = container->exec(request);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_THAT(missing.error().text(), HasSubstr("executable file not found in $PATH"));
  request.process = script("true");
  request.process.cwd = "/nowhere";
  EXPECT_THAT(container->exec(request).error().text(),
              HasSubstr("chdir to cwd (\"/nowhere\") set in config.json failed"));
  finish(*container);
  const auto stopped = container->exec(request);
  EXPECT_EQ(stopped.error().code(), Code::kPrecondition);
}

TEST_F(ExecTest, SubCgroup) {
  auto container = sleeper();
  const auto outcome = exec(*container, script("cat /proc/self/cgroup"), "exec-1");
  EXPECT_THAT(outcome.out, ::testing::AnyOf(HasSubstr("freezer:/exec-1\n"), HasSubstr("0::/exec-1\n")));
  finish(*container);
}

TEST_F(ExecTest, InAUserNamespace) {
  auto spec = script_spec("sleep 1000");
  spec.linux->namespaces.push_back({.type = spec::NamespaceType::kUser, .path = "", .extra = {}});
  spec.linux->uid_mappings = {{.container_id = 0, .host_id = 100000, .size = 65536, .extra = {}}};
  spec.linux->gid_mappings = spec.linux->uid_mappings;
  ASSERT_EQ(std::system(("chown -R 100000:100000 " + bundle_.path() + "/rootfs").c_str()), 0);  // NOLINT
  auto container = sleeper(spec);
  ASSERT_NE(container, nullptr);
  EXPECT_THAT(exec(*container, script("id -u; touch /tmp/x && echo ok; grep -c 100000 /proc/self/uid_map")).out,
              HasSubstr("0\nok\n1\n"));
  finish(*container);
}

TEST_F(ExecTest, Terminals) {
  auto spec = script_spec("tty; stat -c %F /dev/console; test -t 0 && echo is-tty; sleep 1000");
  spec.process->terminal = true;
  spec.process->console_size = spec::ConsoleSize{.height = 33, .width = 77, .extra = {}};
  auto container = create(spec);
  ASSERT_NE(container, nullptr);
  UniqueFd console = container->take_console();
  ASSERT_TRUE(console.valid());
  winsize size{};
  ASSERT_EQ(::ioctl(console.get(), TIOCGWINSZ, &size), 0);
  EXPECT_EQ(size.ws_row, 33);
  EXPECT_EQ(size.ws_col, 77);
  ASSERT_TRUE(container->start().has_value());
  std::string text;
  while (text.find("is-tty") == std::string::npos) {
    char buffer[256];
    const ssize_t n = ::read(console.get(), buffer, sizeof buffer);
    ASSERT_GT(n, 0) << text;
    text.append(buffer, static_cast<std::size_t>(n));
  }
  EXPECT_THAT(text, HasSubstr("/dev/pts/0\r\ncharacter special file\r\n"));
  ExecRequest request;
  request.process = script("tty");
  request.process.terminal = true;
  auto process = container->exec(request);
  ASSERT_TRUE(process.has_value()) << process.error().text();
  ASSERT_TRUE(process->console.valid());
  EXPECT_EQ(os::reap_pidfd(process->pidfd.get()).value_or(-1), 0);
  char buffer[64];
  const ssize_t n = ::read(process->console.get(), buffer, sizeof buffer);
  EXPECT_EQ(std::string_view(buffer, static_cast<std::size_t>(std::max<ssize_t>(n, 0))), "/dev/pts/1\r\n");
  finish(*container);
}

TEST_F(ExecTest, SignalsReachInitOrAll) {
  auto container = sleeper(script_spec("trap 'exit 42' TERM; sleep 1000 & wait"));
  ASSERT_NE(container, nullptr);
  // The trap is set once its child is there.
  while (container->pids().value_or(std::vector<pid_t>{}).size() < 2) ::usleep(1000);
  ASSERT_TRUE(container->kill(SIGTERM, false).has_value());
  EXPECT_EQ(os::reap_pidfd(container->init().pidfd.get()).value_or(-1), 42);
  EXPECT_EQ(container->kill(SIGTERM, false).error().code(), Code::kNotFound);
  EXPECT_TRUE(container->remove().has_value());
}

TEST_F(ExecTest, KillAllEndsProcessesWithoutAPidNamespace) {
  auto spec = script_spec("for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait");
  std::erase_if(spec.linux->namespaces, [](const auto& entry) { return entry.type == spec::NamespaceType::kPid; });
  auto container = sleeper(spec);
  while (container->pids().value_or(std::vector<pid_t>{}).size() < 9) ::usleep(1000);
  const auto pids = *container->pids();
  ASSERT_TRUE(container->kill(SIGKILL, true).has_value());
  EXPECT_EQ(os::reap_pidfd(container->init().pidfd.get()).value_or(-1), 128 + SIGKILL);
  EXPECT_TRUE(container->remove().has_value());
  for (const pid_t pid : pids) {
    const auto times = os::process_times(pid);
    EXPECT_TRUE(!times || times->state == 'Z' || times->state == 'X') << pid;
  }
}

TEST_F(ExecTest, RemoveEndsARunningContainer) {
  auto container = sleeper();
  finish(*container);
}

TEST_F(ExecTest, PauseAndResume) {
  auto container = sleeper(script_spec("while :; do :; done"));
  ASSERT_TRUE(container->pause().has_value());
  EXPECT_TRUE(container->paused().value_or(false));
  const auto first = container->stats();
  ASSERT_TRUE(first.has_value());
  ::usleep(30'000);
  EXPECT_EQ(container->stats()->cpu_usage_ns, first->cpu_usage_ns) << "frozen processes use no time";
  ASSERT_TRUE(container->resume().has_value());
  EXPECT_FALSE(container->paused().value_or(true));
  ASSERT_TRUE(container->pause().has_value());
  ASSERT_TRUE(container->kill(SIGKILL, false).has_value()) << "a paused one dies too";
  EXPECT_EQ(os::reap_pidfd(container->init().pidfd.get()).value_or(-1), 128 + SIGKILL);
  EXPECT_TRUE(container->remove().has_value());
}

TEST_F(ExecTest, NobodyInsideCanUseTheRuntimesExecutable) {
  // CVE-2019-5736: while an exec is set up, its /proc/PID/exe is the runtime's. Watched from inside with
  // CAP_DAC_OVERRIDE.
  auto spec = script_spec(
      "while :; do for p in /proc/[0-9]*; do test ${p#/proc/} -gt 1 && readlink $p/exe | grep -v busybox; done; done");
  auto out = os::make_pipe();
  auto container = create(spec, {-1, out->write.get(), -1});
  ASSERT_NE(container, nullptr);
  ASSERT_TRUE(container->start().has_value());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(exec(*container, script("true")).code, 0);
  finish(*container);
  out->write.reset();
  EXPECT_EQ(os::read_all(out->read.get(), 1U << 20).value_or("?"), "");
}

}  // namespace
}  // namespace berth::engine::process
