#pragma once
#include <sys/types.h>

#include <cstdint>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::os {

struct CloneOptions {
  std::uint64_t flags = 0;  ///< CLONE_NEW*, CLONE_PARENT
  int cgroup_fd = -1;       ///< a cgroup v2 folder to be born in (CLONE_INTO_CGROUP); borrowed
};

struct Cloned {
  pid_t pid = -1;  ///< 0 in the child
  UniqueFd pidfd;  ///< in the parent
};

/// clone3(2) as fork: a copy-on-write child that runs on from here. The caller must have one thread, since the child
/// may allocate. The exit signal is SIGCHLD, or with CLONE_PARENT the caller's own. Not for threaded programs.
Result<Cloned> clone_process(const CloneOptions& options);

/// Waits until `pidfd`'s process, a child, has ended, and reaps it: the exit code, or 128 + signal.
Result<int> reap_pidfd(int pidfd);
/// close_range(2): closes everything from `first` up. For the time before exec: owners of such descriptors must not
/// run.
Result<> close_from(unsigned first);

/// Of /proc/PID/stat: when it began (field 22, clock ticks since boot), its state, and whether it is on its way out,
/// which its state does not say before it is a zombie.
struct ProcessTimes {
  std::uint64_t start_time = 0;
  char state = '?';
  bool exiting = false;
};
Result<ProcessTimes> process_times(pid_t pid);

/// execve(2), relative to nothing: returns only the error.
std::unexpected<Error> exec_program(const char* path, char* const* argv, char* const* envp);
/// execveat(2) of a descriptor with AT_EMPTY_PATH.
std::unexpected<Error> exec_fd(int fd, char* const* argv, char* const* envp);

}  // namespace berth::os
