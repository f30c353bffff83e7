#include "engine/external/exec_wait.h"

#include <csignal>

#include "gtest/gtest.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "os/spawn.h"

namespace berth::engine::external {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kLimit{100};
constexpr milliseconds kPatience{20'000};

/// A shell that becomes another program when it is told so.
class Shell final {
 public:
  Shell() {
    auto made = os::make_pipe();
    if (!made) return;
    input_ = std::move(made->write);
    auto started = os::spawn(
        {.argv = {"/bin/sh", "-c", "read x; exec sleep 1000"}, .env = {}, .cwd = {}, .fds = {{made->read.get(), 0}}});
    if (!started) return;
    child_ = std::move(*started);
    before_ = os::executed_file(child_.pid).value_or(os::Executed());
  }
  Shell(const Shell&) = delete;
  Shell& operator=(const Shell&) = delete;
  Shell(Shell&&) = delete;
  Shell& operator=(Shell&&) = delete;
  ~Shell() {
    if (!child_.pidfd.valid()) return;
    EXPECT_TRUE(os::pidfd_signal(child_.pidfd.get(), SIGKILL));
    EXPECT_TRUE(os::wait_exit(child_));
  }
  [[nodiscard]] bool tell() const { return os::write_all(input_.get(), "\n").has_value(); }
  [[nodiscard]] bool become_the_program() const {
    return tell() && os::wait_for_exec(child_.pid, child_.pidfd.get(), before_, kPatience) == os::Awaited::kExec;
  }
  /// How long a start of it takes.
  [[nodiscard]] steady_clock::duration wait(ExecWait& wait) const {
    const auto start = steady_clock::now();
    wait.wait(child_.pid, child_.pidfd.get(), before_);
    return steady_clock::now() - start;
  }

 private:
  UniqueFd input_;
  os::Child child_;
  os::Executed before_;
};

TEST(ExecWait, ARuntimeThatNeverExecutesCostsOneWait) {
  ExecWait wait(kLimit);
  const Shell one;
  const Shell two;
  EXPECT_GE(one.wait(wait), kLimit);
  EXPECT_LT(two.wait(wait), kLimit);
  EXPECT_LT(one.wait(wait), kLimit);
}

TEST(ExecWait, OneThatWasLateIsWaitedForAgain) {
  ExecWait wait(kLimit);
  const Shell late;
  EXPECT_GE(late.wait(wait), kLimit);
  ASSERT_TRUE(late.become_the_program());
  const Shell next;
  EXPECT_GE(next.wait(wait), kLimit);
  EXPECT_GE(next.wait(wait), kLimit) << "it is known to execute programs";
}

TEST(ExecWait, OfOneThatHasEndedNothingIsConcluded) {
  ExecWait wait(kLimit);
  {
    const Shell late;
    EXPECT_GE(late.wait(wait), kLimit);
  }
  const Shell next;
  EXPECT_GE(next.wait(wait), kLimit);
}

TEST(ExecWait, OneThatWasInTimeIsNeverTakenForOneThatStays) {
  ExecWait wait(kPatience);
  const Shell program;
  ASSERT_TRUE(program.tell());
  EXPECT_LT(program.wait(wait), kPatience);
}

}  // namespace
}  // namespace berth::engine::external
