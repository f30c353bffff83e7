#include "rpc/pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>

namespace berth::rpc {
namespace {

TEST(Pool, RunsEverythingBeforeItGoes) {
  std::atomic<int> ran = 0;
  {
    Pool pool({.name = "t", .max_threads = 3});
    for (int i = 0; i < 200; ++i) ASSERT_TRUE(pool.submit([&ran] { ++ran; }));
  }
  EXPECT_EQ(ran, 200);
}

TEST(Pool, RefusesWhenFullAndNeverUsesMoreThreads) {
  std::latch started(2);
  std::latch release(1);
  std::atomic<int> ran = 0;
  {
    Pool pool({.name = "t", .max_threads = 2, .max_queue = 3});
    for (int i = 0; i < 2; ++i) {
      ASSERT_TRUE(pool.submit([&] {
        started.count_down();
        release.wait();
        ++ran;
      }));
    }
    started.wait();
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(pool.submit([&ran] { ++ran; }));
    EXPECT_FALSE(pool.submit([] { FAIL() << "was refused"; }));
    release.count_down();
  }
  EXPECT_EQ(ran, 5);
}

TEST(Pool, BlockedJobsDoNotHoldUpOthersWhileThreadsAreLeft) {
  std::latch release(1);
  std::latch done(1);
  Pool pool({.name = "t", .max_threads = 2});
  ASSERT_TRUE(pool.submit([&release] { release.wait(); }));
  ASSERT_TRUE(pool.submit([&done] { done.count_down(); }));
  done.wait();
  release.count_down();
}

}  // namespace
}  // namespace berth::rpc
