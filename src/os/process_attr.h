#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/result.h"

/// Attributes of the calling process that exec keeps.
namespace berth::os {

/// "RLIMIT_NOFILE" to its number; nothing for an unknown name.
[[nodiscard]] std::optional<int> rlimit_number(std::string_view name);
/// setrlimit(2). Where that is refused (raising the hard limit without CAP_SYS_RESOURCE), sets as much as is allowed
/// and returns false. kInvalid soft above hard.
Result<bool> set_rlimit(int resource, std::uint64_t soft, std::uint64_t hard);

Result<> set_no_new_privs();
/// PR_SET_PDEATHSIG; the kernel forgets it at a change of credentials.
Result<> set_parent_death_signal(int signal);
/// PR_SET_DUMPABLE: with `on` false /proc/PID of this process belongs to root and cannot be traced without
/// CAP_SYS_PTRACE. exec sets it again.
Result<> set_dumpable(bool on);
/// A new session keyring named `name`.
Result<> join_session_keyring(const char* name);
Result<> set_personality(unsigned long persona);
struct SchedAttributes {
  unsigned policy = 0;
  std::uint64_t flags = 0;
  int nice = 0;
  unsigned priority = 0;
  std::uint64_t runtime = 0;
  std::uint64_t deadline = 0;
  std::uint64_t period = 0;
};
/// sched_setattr(2) for the calling thread.
Result<> set_scheduler(const SchedAttributes& attributes);
/// sched_setaffinity(2) for the calling process, which must have one thread. `cpus`: a bit set, CPU N is bit N % 64 of
/// word N / 64. kInvalid when none of them is there or allowed by the cpuset.
Result<> set_cpu_affinity(std::span<const std::uint64_t> cpus);
/// set_mempolicy(2) for the calling thread. `mode`: MPOL_* with MPOL_F_*; `nodes`: a bit set as above, or empty.
/// kInvalid nodes that are not there or that the mode does not take; kUnsupported a kernel without NUMA.
Result<> set_memory_policy(int mode, std::span<const std::uint64_t> nodes);
/// ioprio_set(2) for the calling process: class 1 to 3, priority 0 to 7.
Result<> set_io_priority(int io_class, int priority);
/// setsid(2), then TIOCSCTTY on `tty_fd`.
Result<> take_terminal(int tty_fd);
Result<> set_window_size(int tty_fd, unsigned short rows, unsigned short columns);

/// Default action for the signals that programs are used to ignore, nothing blocked. For the time before exec.
void reset_signals();

}  // namespace berth::os
