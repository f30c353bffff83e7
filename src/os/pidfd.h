#pragma once
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

/// Processes by descriptor: a pidfd keeps naming the process it was opened for, whatever happens to its number.
namespace berth::os {

/// pidfd_open(2). kNotFound when there is no such process.
Result<UniqueFd> open_pidfd(pid_t pid);

/// pidfd_send_signal(2); signal 0 only asks. kNotFound when the process has ended and was reaped.
Result<> pidfd_signal(int pidfd, int signal);

/// pidfd_getfd(2): a copy of the other process's descriptor `fd`, CLOEXEC. Needs the right to trace the process.
/// kNotFound when the process has ended.
Result<UniqueFd> pidfd_fetch_fd(int pidfd, int fd);

/// How a child ended.
struct ProcessEnd {
  bool signaled = false;  ///< `value` is the signal; else it is the exit code
  int value = 0;
};
/// Reaps the child behind `pidfd` if it has ended; nothing while it runs. kNotFound when it is not our child (any
/// more). Never blocks. Source: waitid(2) P_PIDFD.
Result<std::optional<ProcessEnd>> reap(int pidfd);

/// Waits until `fd` (borrowed) can be read without blocking; for a pidfd: until the process has ended. False at the
/// timeout; 0 only asks. EINTR is retried. Source: poll(2).
Result<bool> wait_readable(int fd, std::chrono::milliseconds timeout);

/// When the process was started, in clock ticks since boot: with the pid it names a process for the life of the system.
/// kNotFound when there is no such process. Source: proc_pid_stat(5), field 22.
Result<std::uint64_t> process_start_time(pid_t pid);

}  // namespace berth::os
