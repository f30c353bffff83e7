#include "cri/operation.h"

#include <atomic>
#include <future>
#include <latch>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::cri {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::HasSubstr;

TEST(Operations, RetriesJoinTheRunningOne) {
  Workers workers;
  Operations operations(workers);
  std::atomic<int> runs{0};
  std::promise<void> go;
  auto gate = go.get_future().share();
  const auto body = [&](Operation&) -> Result<std::string> {
    ++runs;
    gate.wait();
    return std::string("result");
  };
  std::vector<std::future<Result<std::string>>> calls;
  for (int i = 0; i < 20; ++i) {
    calls.push_back(std::async(std::launch::async, [&] { return operations.run("key", "title", Call{}, body); }));
  }
  // One that gives up does not end the work.
  Call hasty;
  hasty.deadline = steady_clock::now() + milliseconds(30);
  const auto late = operations.run("key", "title", hasty, body);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), Code::kTimeout);
  go.set_value();
  for (auto& call : calls) EXPECT_EQ(*call.get(), "result");
  EXPECT_EQ(runs.load(), 1);
  EXPECT_EQ(*operations.run("key", "title", Call{}, body), "result");
  EXPECT_EQ(runs.load(), 2) << "after its end a new one starts";
}

TEST(Operations, ADeadlineNamesTheOldestStage) {
  Workers workers;
  Operations operations(workers);
  std::promise<void> go;
  auto gate = go.get_future().share();
  std::latch inside(1);
  const auto body = [&](Operation& operation) -> Result<std::string> {
    const Stage outer(operation, "stat volume", "/mnt/dead");
    const Stage inner(operation, "newer stage");
    inside.count_down();
    gate.wait();
    return fail(Code::kNotFound, "no");
  };
  Call call;
  call.deadline = steady_clock::now() + milliseconds(50);
  auto late = std::async(std::launch::async, [&] { return operations.run("k", "CreateContainer web", call, body); });
  inside.wait();
  const auto result = late.get();
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().text(), HasSubstr("CreateContainer web: step: stat volume /mnt/dead, 0 s"));
  std::stop_source stop;
  stop.request_stop();
  Call gone;
  gone.stop = stop.get_token();
  EXPECT_EQ(operations.run("k", "t", gone, body).error().code(), Code::kCancelled);
  auto patient = std::async(std::launch::async, [&] { return operations.run("k", "t", Call{}, body); });
  go.set_value();
  EXPECT_EQ(patient.get().error().code(), Code::kNotFound) << "a retry gets the result of the one it joined";
}

TEST(Operations, AnExceptionIsAnError) {
  Workers workers;
  Operations operations(workers);
  const auto result =
      operations.run("k", "t", Call{}, [](Operation&) -> Result<std::string> { throw std::runtime_error("boom"); });
  EXPECT_EQ(result.error().code(), Code::kInternal);
  EXPECT_THAT(result.error().text(), HasSubstr("boom"));
}

TEST(OperationLock, IsHandedOnInTheOrderOfAskingAndNamesItsHolder) {
  OperationLock lock;
  Operation first("StopPodSandbox a");
  Operation second("RemovePodSandbox a");
  lock.lock(first);
  std::thread waiter([&] { const OperationLock::Guard guard(lock, second); });
  while (second.current_step() == "step: none yet") std::this_thread::yield();
  EXPECT_THAT(second.current_step(), HasSubstr("wait for StopPodSandbox a"));
  lock.unlock();
  waiter.join();
}

TEST(Workers, RunEverythingBeforeTheyClose) {
  std::atomic<int> done{0};
  Workers workers({.max_threads = 3, .idle_seconds = 1});
  for (int i = 0; i < 200; ++i) workers.post([&] { ++done; });
  workers.close();
  EXPECT_EQ(done.load(), 200);
  workers.post([&] { ++done; });
  EXPECT_EQ(done.load(), 200);
}

}  // namespace
}  // namespace berth::cri
