#include "os/process_exe.h"

#include <unistd.h>

#include <csignal>

#include "gtest/gtest.h"
#include "os/pidfd.h"
#include "os/spawn.h"

namespace berth::os {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

TEST(ProcessExe, AnExecIsSeen) {
  const auto child =
      spawn({.argv = {"/bin/sh", "-c", "sleep 0.2; exec /bin/sleep 100"}, .env = {}, .cwd = {}, .fds = {}});
  ASSERT_TRUE(child) << child.error().text();
  const auto before = executed_file(child->pid);
  ASSERT_TRUE(before) << before.error().text();
  EXPECT_EQ(wait_for_exec(child->pid, child->pidfd.get(), *before, milliseconds(20'000)), Awaited::kExec);
  const auto after = executed_file(child->pid);
  ASSERT_TRUE(after) << after.error().text();
  EXPECT_NE(*before, *after);
  const auto start = steady_clock::now();
  EXPECT_EQ(wait_for_exec(child->pid, child->pidfd.get(), *after, milliseconds(50)), Awaited::kNothing);
  EXPECT_GE(steady_clock::now() - start, milliseconds(50)) << "it executes nothing else";
  ASSERT_TRUE(pidfd_signal(child->pidfd.get(), SIGKILL));
  EXPECT_EQ(wait_for_exec(child->pid, child->pidfd.get(), *after, milliseconds(20'000)), Awaited::kEnd);
  EXPECT_TRUE(*wait_readable(child->pidfd.get(), milliseconds(20'000)));
  EXPECT_TRUE(reap(child->pidfd.get()));
}

TEST(ProcessExe, AGoneProcessIsNotFound) {
  EXPECT_EQ(executed_file(0x3fffffff).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace berth::os
