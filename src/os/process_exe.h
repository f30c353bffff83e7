#pragma once
#include <sys/types.h>

#include <chrono>
#include <cstdint>

#include "base/result.h"

namespace berth::os {

/// A file that a process executes.
struct Executed {
  dev_t device = 0;
  ino_t inode = 0;
  friend bool operator==(const Executed&, const Executed&) = default;
};

/// What process `pid` executes now. kNotFound when there is no such process, kDenied without the right to trace it.
/// Source: proc_pid_exe(5).
Result<Executed> executed_file(pid_t pid);

enum class Awaited : std::uint8_t {
  kExec,     ///< it executes another file
  kEnd,      ///< it has ended, or cannot be looked at any more
  kNothing,  ///< the limit is over
};

/// Waits until process `pid`, held by `pidfd` (borrowed), executes another file than `before`, has ended, or `limit` is
/// over; looks every millisecond. Blocks.
Awaited wait_for_exec(pid_t pid, int pidfd, const Executed& before, std::chrono::milliseconds limit);

}  // namespace berth::os
