#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

#include "os/cgroup.h"

namespace berth::cri {

/// The tasks in the cgroup `path` and below it, in any hierarchy, that no signal ends now: those in uninterruptible
/// sleep (state D). "process 4711 (cat) is in state D (request_wait_answer)", one after another with commas, at most
/// eight of them; "" when there are none. Asks /proc, which answers of such tasks, too.
[[nodiscard]] std::string stuck_tasks(const os::CgroupLayout& cgroups, const std::string& path);

/// The same of one process: "" when it is not stuck, or is gone.
[[nodiscard]] std::string stuck_task(pid_t pid);

/// Sends SIGKILL to every process in the cgroup `path` and below it. Does not wait.
void kill_tasks(const os::CgroupLayout& cgroups, const std::string& path);

}  // namespace berth::cri
