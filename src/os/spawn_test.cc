#include "os/spawn.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/strings.h"
#include "os/file.h"
#include "os/netns.h"

namespace berth::os {
namespace {

RunOptions shell(const std::string& script) {
  RunOptions options;
  options.spawn.argv = {"/bin/sh", "-c", script};
  options.spawn.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GREETING=hi"};
  return options;
}

class SpawnTest : public testing::Test {
 protected:
  void SetUp() override { ::signal(SIGPIPE, SIG_IGN); }
};

TEST_F(SpawnTest, RunGivesOutputAndCode) {
  auto options = shell("cat; echo $GREETING >&2; exit 3");
  options.input = std::string(300'000, 'y');
  const auto output = run(options);
  ASSERT_TRUE(output) << output.error().text();
  EXPECT_EQ(output->exit_code, 3);
  EXPECT_EQ(output->out.size(), 300'000U);
  EXPECT_EQ(output->err, "hi\n");
}

TEST_F(SpawnTest, AProgramMayBeCalledOtherwise) {
  RunOptions options;
  options.spawn.program = "/bin/sh";
  options.spawn.argv = {"another name", "-c", "cat /proc/$$/cmdline"};
  options.spawn.env = {"PATH=/bin:/usr/bin"};
  const auto result = run(std::move(options));
  ASSERT_TRUE(result.has_value()) << result.error().text();
  EXPECT_TRUE(result->out.starts_with(std::string("another name\0-c", 15))) << result->out;
}

TEST_F(SpawnTest, UnreadInputIsNoError) {
  auto options = shell("exit 0");
  options.input = std::string(300'000, 'y');
  EXPECT_TRUE(run(options));
}

TEST_F(SpawnTest, MissingProgramNamesItself) {
  RunOptions options;
  options.spawn.argv = {"/nonexistent/plugin"};
  const auto output = run(options);
  ASSERT_FALSE(output);
  EXPECT_EQ(output.error().errno_value(), ENOENT);
  EXPECT_NE(output.error().text().find("/nonexistent/plugin"), std::string::npos);
}

TEST_F(SpawnTest, TimeoutKillsTheWholeGroupAndBackgroundChildrenAreNotWaitedFor) {
  auto options = shell("sleep 300 & sleep 300");
  options.timeout = std::chrono::milliseconds(100);
  EXPECT_EQ(run(options).error().code(), Code::kTimeout);
  const auto output = run(shell("sleep 300 & echo $!"));
  ASSERT_TRUE(output);
  // Killed with its group: gone, or soon to be.
  const auto pid = parse_number<pid_t>(trim(output->out));
  ASSERT_TRUE(pid) << output->out;
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0)));
  if (pidfd.valid()) {
    pollfd ended{pidfd.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&ended, 1, 5000), 1) << "the background child lives on";
  }
}

TEST_F(SpawnTest, OutputIsBounded) {
  auto options = shell("cat /dev/zero");
  options.output_limit = 1000;
  EXPECT_EQ(run(options).error().code(), Code::kExhausted);
}

TEST_F(SpawnTest, StopCallsOff) {
  std::stop_source stop;
  stop.request_stop();
  auto options = shell("sleep 300");
  options.stop = stop.get_token();
  EXPECT_EQ(run(options).error().code(), Code::kCancelled);
}

TEST_F(SpawnTest, NothingElseIsInherited) {
  const auto leak = open_file("/proc/version", O_RDONLY);
  const auto output = run(shell("ls /proc/self/fd | wc -l"));
  ASSERT_TRUE(output);
  EXPECT_EQ(output->out, "4\n");  // 0, 1, 2 and the one of ls itself
}

TEST_F(SpawnTest, MappingsMayOverlap) {
  const auto a = make_pipe();
  const auto b = make_pipe();
  ASSERT_TRUE(write_all(a->write.get(), "A"));
  ASSERT_TRUE(write_all(b->write.get(), "B"));
  auto options = shell("head -c1 <&3; head -c1 <&4");
  options.spawn.fds = {{a->read.get(), 4}, {b->read.get(), 3}};
  EXPECT_EQ(run(options)->out, "BA");
}

TEST_F(SpawnTest, NetnsIsEnteredByTheWorkAlone) {
  auto netns = create_netns();
  if (!netns) GTEST_SKIP() << "needs CAP_SYS_ADMIN: " << netns.error().text();
  const auto here = std::filesystem::read_symlink("/proc/thread-self/ns/net");
  std::filesystem::path there;
  std::string links;
  auto ran = run_in_netns(netns->get(), [&there, &links]() -> Result<> {
    there = std::filesystem::read_symlink("/proc/thread-self/ns/net");
    auto output = run(shell("readlink /proc/self/ns/net"));
    if (!output) return fail(output.error());
    links = output->out;
    return {};
  });
  ASSERT_TRUE(ran) << ran.error().text();
  EXPECT_NE(here, there);
  EXPECT_EQ(links, there.string() + "\n");
  EXPECT_EQ(here, std::filesystem::read_symlink("/proc/thread-self/ns/net"));
}

TEST(FindProgram, InPathOrByItsPath) {
  EXPECT_EQ(find_program("sh", ""), find_program("sh"));
  const auto found = find_program("sh");
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->ends_with("/sh"));
  EXPECT_EQ(find_program(*found), found);
  for (const char* nothing : {"", "berth-no-such-program", "/proc/version", "/etc", "/no/such/program"}) {
    EXPECT_FALSE(find_program(nothing)) << nothing;
  }
}

}  // namespace
}  // namespace berth::os
