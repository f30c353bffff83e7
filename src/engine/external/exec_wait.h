#pragma once
#include <sys/types.h>

#include <chrono>
#include <optional>

#include "base/unique_fd.h"
#include "os/process_exe.h"

namespace berth::engine::external {

/// The wait at a start until a runtime's process has become the program: signals until then would be the runtime's.
/// There are runtimes that never execute one, as those of wasm and of sandboxes with a kernel of their own: of such a
/// one the first start alone pays. One object for all containers of one runtime in a pod; one thread.
class ExecWait final {
 public:
  static constexpr std::chrono::milliseconds kLimit{200};
  explicit ExecWait(std::chrono::milliseconds limit = kLimit) : limit_(limit) {}

  /// Blocks until process `pid`, held by `pidfd` (borrowed), executes another file than `before` or has ended; for the
  /// limit at most, and not at all while a process of an earlier start lives that has stayed what it was. It is never
  /// taken for such a one after any of its processes was seen to have executed something, be it later than the limit.
  void wait(pid_t pid, int pidfd, const os::Executed& before);

 private:
  struct Stayed {
    pid_t pid = 0;
    UniqueFd pidfd;
    os::Executed before;
  };
  void look_again();

  std::chrono::milliseconds limit_;
  bool executes_ = false;
  std::optional<Stayed> stayed_;  // who has not executed anything within the limit
};

}  // namespace berth::engine::external
