#include "engine/external/exec_wait.h"

#include <utility>

#include "os/file.h"
#include "os/pidfd.h"

namespace berth::engine::external {

// On a busy machine the first program may take longer than the limit. Of a process that has ended nobody knows.
void ExecWait::look_again() {
  const auto now = os::executed_file(stayed_->pid);
  // Only of a process that has not ended by now the number is still its own.
  const auto ended = os::wait_readable(stayed_->pidfd.get(), std::chrono::milliseconds(0));
  if (!ended || *ended) return stayed_.reset();
  if (!now || *now == stayed_->before) return;
  executes_ = true;
  stayed_.reset();
}

void ExecWait::wait(pid_t pid, int pidfd, const os::Executed& before) {
  if (stayed_) look_again();
  if (stayed_) return;
  const auto seen = os::wait_for_exec(pid, pidfd, before, limit_);
  if (seen == os::Awaited::kExec) executes_ = true;
  if (seen != os::Awaited::kNothing || executes_) return;
  if (auto held = os::dup_fd(pidfd); held) stayed_ = Stayed{pid, std::move(*held), before};
}

}  // namespace berth::engine::external
