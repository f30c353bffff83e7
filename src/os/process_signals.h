#pragma once
#include <sys/types.h>

#include <string_view>

#include "base/result.h"

namespace berth::os {

/// Whether the kernel drops `signal` for process `pid` as it is now: the first process of a pid namespace gets from
/// outside, SIGKILL and SIGSTOP apart, only what it has a handler for, or blocks. `pid` as the caller's /proc numbers
/// it; `signal`: 1 to 64. kNotFound when there is no such process. A moment later it may be otherwise.
/// Source: pid_namespaces(7), proc_pid_status(5) SigBlk, SigCgt, NSpid.
Result<bool> drops_signal(pid_t pid, int signal);

/// drops_signal() of the text of a /proc/PID/status.
[[nodiscard]] bool status_drops_signal(std::string_view status, int signal);

}  // namespace berth::os
