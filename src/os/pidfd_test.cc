#include "os/pidfd.h"

#include <unistd.h>

#include <csignal>

#include "gtest/gtest.h"
#include "os/spawn.h"

namespace berth::os {
namespace {

TEST(Pidfd, ChildIsKilledWaitedForAndReapedOnce) {
  auto child = spawn({.argv = {"/bin/sleep", "100"}, .env = {}, .cwd = {}, .fds = {}});
  ASSERT_TRUE(child) << child.error().text();
  const auto again = open_pidfd(child->pid);
  ASSERT_TRUE(again);
  EXPECT_FALSE(*wait_readable(child->pidfd.get(), std::chrono::milliseconds(0)));
  EXPECT_FALSE(reap(child->pidfd.get())->has_value());
  ASSERT_TRUE(pidfd_signal(again->get(), SIGKILL));
  EXPECT_TRUE(*wait_readable(again->get(), std::chrono::seconds(10)));
  const auto end = reap(child->pidfd.get());
  ASSERT_TRUE(end && end->has_value());
  EXPECT_TRUE((*end)->signaled);
  EXPECT_EQ((*end)->value, SIGKILL);
  EXPECT_EQ(reap(child->pidfd.get()).error().code(), Code::kNotFound);
  EXPECT_EQ(pidfd_signal(again->get(), 0).error().code(), Code::kNotFound);
  EXPECT_EQ(open_pidfd(child->pid).error().code(), Code::kNotFound);
}

TEST(Pidfd, StartTimeNamesAProcess) {
  const auto mine = process_start_time(::getpid());
  ASSERT_TRUE(mine) << mine.error().text();
  EXPECT_GT(*mine, 0U);
  EXPECT_EQ(*mine, *process_start_time(::getpid()));
  EXPECT_EQ(process_start_time(0x3fffffff).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace berth::os
