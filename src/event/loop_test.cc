#include "event/loop.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <string>

#include "os/spawn.h"

namespace berth::event {
namespace {

using namespace std::chrono_literals;

class LoopTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = Loop::create();
    ASSERT_TRUE(made);
    loop_ = std::move(*made);
  }
  static UniqueFd ready() { return UniqueFd(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)); }
  static os::Child child(const std::string& script) {
    auto made = os::spawn({.argv = {"/bin/sh", "-c", script}, .env = {}, .cwd = "", .fds = {}});
    EXPECT_TRUE(made) << made.error().text();
    return made ? std::move(*made) : os::Child();
  }
  void run_guarded(Loop::Duration limit = 20s) {
    bool late = false;
    const TimerId guard = loop_->add_timer(limit, [this, &late]() {
      late = true;
      loop_->stop();
    });
    ASSERT_TRUE(loop_->run());
    loop_->cancel(guard);
    EXPECT_FALSE(late) << "the loop was not stopped in time";
  }
  std::unique_ptr<Loop> loop_;
};

TEST_F(LoopTest, CallsTheWatchUntilItIsRemoved) {
  const UniqueFd fd = ready();
  int calls = 0;
  WatchId id{};
  id = loop_
           ->add_fd(fd.get(), EPOLLIN,
                    [&](std::uint32_t events) {
                      EXPECT_NE(events & EPOLLIN, 0U);
                      if (++calls == 3) loop_->remove(id);
                    })
           .value();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(loop_->run_once(0ms));
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(loop_->modify_fd(id, EPOLLIN).error().code(), Code::kNotFound);
  EXPECT_TRUE(loop_->add_fd(fd.get(), EPOLLIN, [](std::uint32_t) {}));
}

TEST_F(LoopTest, ModifyMutesAndUnmutes) {
  const UniqueFd fd = ready();
  int calls = 0;
  const WatchId id = loop_->add_fd(fd.get(), 0, [&](std::uint32_t) { ++calls; }).value();
  ASSERT_TRUE(loop_->run_once(0ms));
  EXPECT_EQ(calls, 0);
  ASSERT_TRUE(loop_->modify_fd(id, EPOLLIN));
  ASSERT_TRUE(loop_->run_once(0ms));
  EXPECT_EQ(calls, 1);
}

TEST_F(LoopTest, EventsFetchedForARemovedWatchAreDropped) {
  const UniqueFd first = ready();
  const UniqueFd second = ready();
  int calls = 0;
  WatchId a{};
  WatchId b{};
  // Both are ready in one round; whichever runs first removes the other and puts a new watch into the freed slot.
  auto handler = [&](std::uint32_t) {
    ++calls;
    loop_->remove(a);
    loop_->remove(b);
    ASSERT_TRUE(loop_->add_fd(first.get(), 0, [](std::uint32_t) { ADD_FAILURE() << "muted watch was called"; }));
  };
  a = loop_->add_fd(first.get(), EPOLLIN, handler).value();
  b = loop_->add_fd(second.get(), EPOLLIN, handler).value();
  ASSERT_TRUE(loop_->run_once(0ms));
  EXPECT_EQ(calls, 1);
}

TEST_F(LoopTest, CapturesOutliveTheCallbackThatRemovesItself) {
  const UniqueFd fd = ready();
  auto token = std::make_shared<int>(7);
  const std::weak_ptr<int> weak = token;
  auto id = std::make_shared<WatchId>();
  *id = loop_
            ->add_fd(fd.get(), EPOLLIN,
                     [this, id, token = std::move(token), &weak](std::uint32_t) {
                       loop_->remove(*id);
                       EXPECT_FALSE(weak.expired());
                       EXPECT_EQ(*token, 7);
                     })
            .value();
  ASSERT_TRUE(loop_->run_once(0ms));
  EXPECT_TRUE(weak.expired());
}

TEST_F(LoopTest, ACallbackMayGrowTheTables) {
  const UniqueFd fd = ready();
  std::vector<UniqueFd> more;
  WatchId id{};
  id = loop_
           ->add_fd(fd.get(), EPOLLIN,
                    [&](std::uint32_t) {
                      loop_->remove(id);
                      for (int i = 0; i < 200; ++i) {
                        more.push_back(ready());
                        ASSERT_TRUE(loop_->add_fd(more.back().get(), 0, [](std::uint32_t) {}));
                        loop_->add_timer(1h, []() {});
                      }
                    })
           .value();
  ASSERT_TRUE(loop_->run_once(0ms));
  EXPECT_EQ(more.size(), 200U);
}

TEST_F(LoopTest, RefusesAnUnwatchableOrDoubleDescriptor) {
  const UniqueFd fd = ready();
  ASSERT_TRUE(loop_->add_fd(fd.get(), EPOLLIN, [](std::uint32_t) {}));
  EXPECT_EQ(loop_->add_fd(fd.get(), EPOLLIN, [](std::uint32_t) {}).error().code(), Code::kExists);
  EXPECT_FALSE(loop_->add_fd(-1, EPOLLIN, [](std::uint32_t) {}));
}

TEST_F(LoopTest, TimersRunInOrderAndNotEarly) {
  std::string order;
  const auto start = std::chrono::steady_clock::now();
  loop_->add_timer(30ms, [&]() {
    order += 'c';
    EXPECT_GE(std::chrono::steady_clock::now() - start, 30ms);
    loop_->stop();
  });
  loop_->add_timer(10ms, [&]() { order += 'b'; });
  loop_->add_timer(-5s, [&]() { order += 'a'; });
  const TimerId cancelled = loop_->add_timer(20ms, [&]() { order += 'x'; });
  loop_->cancel(cancelled);
  loop_->cancel(cancelled);
  loop_->add_timer(Loop::Duration::max(), [&]() { order += 'y'; });
  run_guarded();
  EXPECT_EQ(order, "abc");
}

TEST_F(LoopTest, PeriodicTimersRepeatUntilTheyCancelThemselves) {
  int calls = 0;
  TimerId id{};
  id = loop_->add_periodic(1ms, [&]() {
    if (++calls < 4) return;
    loop_->cancel(id);
    loop_->add_timer(5ms, [&]() { loop_->stop(); });
  });
  run_guarded();
  EXPECT_EQ(calls, 4);
}

TEST_F(LoopTest, CancelledTimersDoNotPileUp) {
  const TimerId live = loop_->add_timer(1h, []() {});
  for (int i = 0; i < 10000; ++i) loop_->cancel(loop_->add_timer(1h, []() {}));
  int ran = 0;
  loop_->add_timer(0ms, [&]() { ++ran; });
  ASSERT_TRUE(loop_->run_once(1s));
  EXPECT_EQ(ran, 1);
  loop_->cancel(live);
}

TEST_F(LoopTest, PostedFunctionsRunInOrderOneRoundLater) {
  std::string order;
  loop_->post([&]() {
    order += 'a';
    loop_->post([&]() { order += 'c'; });
  });
  loop_->post([&]() { order += 'b'; });
  ASSERT_TRUE(loop_->run_once(std::nullopt));
  EXPECT_EQ(order, "ab");
  ASSERT_TRUE(loop_->run_once(std::nullopt));
  EXPECT_EQ(order, "abc");
}

TEST_F(LoopTest, StopKeepsWhatWasPostedBehindIt) {
  std::string order;
  loop_->post([&]() { loop_->stop(); });
  loop_->post([&]() { order += 'a'; });
  ASSERT_TRUE(loop_->run());
  EXPECT_EQ(order, "");
  loop_->post([&]() { loop_->stop(); });
  ASSERT_TRUE(loop_->run());
  EXPECT_EQ(order, "a");
}

TEST_F(LoopTest, StopBeforeRunReturnsAtOnce) {
  loop_->stop();
  ASSERT_TRUE(loop_->run());
}

TEST_F(LoopTest, SignalsAreDeliveredAndTheWatchMayEndInsideItsCallback) {
  int seen = 0;
  WatchId id{};
  id = loop_
           ->watch_signals({SIGUSR1, SIGUSR2},
                           [&](const signalfd_siginfo& info) {
                             EXPECT_EQ(static_cast<pid_t>(info.ssi_pid), ::getpid());
                             ++seen;
                             loop_->remove(id);
                             loop_->stop();
                           })
           .value();
  ASSERT_EQ(::kill(::getpid(), SIGUSR1), 0);
  ASSERT_EQ(::kill(::getpid(), SIGUSR2), 0);
  run_guarded();
  EXPECT_EQ(seen, 1);
  // The second one is still pending and blocked; take it, so that it cannot reach another test.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  const timespec none{};
  EXPECT_EQ(::sigtimedwait(&set, nullptr, &none), SIGUSR2);
}

TEST_F(LoopTest, ReapsChildrenWithTheirStatus) {
  std::vector<ProcessExit> exits;
  os::Child quick = child("exit 42");
  os::Child killed = child("kill -STOP $$");
  auto collect = [&](const Result<ProcessExit>& exit) {
    ASSERT_TRUE(exit);
    exits.push_back(*exit);
    if (exits.size() == 2) loop_->stop();
    if (exits.size() == 1) ::kill(killed.pid, SIGKILL);
  };
  ASSERT_TRUE(loop_->watch_process(std::move(quick.pidfd), collect));
  ASSERT_TRUE(loop_->watch_process(std::move(killed.pidfd), collect));
  run_guarded();
  ASSERT_EQ(exits.size(), 2U);
  EXPECT_EQ(exits[0], (ProcessExit{quick.pid, false, 42}));
  EXPECT_EQ(exits[1], (ProcessExit{killed.pid, true, SIGKILL}));
  EXPECT_EQ(exits[1].shell_code(), 137);
  EXPECT_EQ(::waitpid(quick.pid, nullptr, WNOHANG), -1);
}

TEST_F(LoopTest, AProcessReapedElsewhereIsNotFound) {
  auto [pid, fd] = child("exit 0");
  ASSERT_EQ(::waitpid(pid, nullptr, 0), pid);
  Code code = Code::kInternal;
  ASSERT_TRUE(loop_->watch_process(std::move(fd), [&](const Result<ProcessExit>& exit) {
    code = exit ? Code::kInternal : exit.error().code();
    loop_->stop();
  }));
  run_guarded();
  EXPECT_EQ(code, Code::kNotFound);
}

TEST_F(LoopTest, ARemovedProcessWatchLeavesTheZombieToItsOwner) {
  auto [pid, fd] = child("exit 3");
  const WatchId id = loop_->watch_process(std::move(fd), [](const Result<ProcessExit>&) { ADD_FAILURE(); }).value();
  loop_->remove(id);
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WEXITSTATUS(status), 3);
  ASSERT_TRUE(loop_->run_once(0ms));
}

TEST_F(LoopTest, DestroyingTheLoopToleratesCapturesThatUnregister) {
  struct Unregister {
    Loop* loop;
    WatchId watch{};
    TimerId timer{};
    ~Unregister() {
      loop->remove(watch);
      loop->cancel(timer);
    }
  };
  const UniqueFd fd = ready();
  auto held = std::make_shared<Unregister>(Unregister{loop_.get()});
  held->watch = loop_->add_fd(fd.get(), 0, [held](std::uint32_t) {}).value();
  held->timer = loop_->add_timer(1h, [held]() {});
  loop_->post([held]() {});
  held.reset();
  loop_.reset();
}

}  // namespace
}  // namespace berth::event
