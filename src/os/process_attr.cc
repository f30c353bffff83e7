#include "os/process_attr.h"

#include <linux/keyctl.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <string>
#include <utility>

namespace berth::os {

namespace {
constexpr std::array<std::pair<std::string_view, int>, 16> kRlimits{{
    {"RLIMIT_AS", RLIMIT_AS},
    {"RLIMIT_CORE", RLIMIT_CORE},
    {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},
    {"RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"RLIMIT_NPROC", RLIMIT_NPROC},
    {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    {"RLIMIT_RTTIME", RLIMIT_RTTIME},
    {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
}};

// sched_setattr(2); Debian's libc has neither the call nor the struct.
struct KernelSchedAttr {
  std::uint32_t size;
  std::uint32_t policy;
  std::uint64_t flags;
  std::int32_t nice;
  std::uint32_t priority;
  std::uint64_t runtime;
  std::uint64_t deadline;
  std::uint64_t period;
};

/// EINVAL stands for what the caller asked for, not for a fault of ours.
std::unexpected<Error> refused_value(int errno_value, std::string_view what) {
  Error error = errno_error(errno_value, what);
  return errno_value == EINVAL ? fail(std::move(error).as(Code::kInvalid)) : fail(std::move(error));
}
}  // namespace

std::optional<int> rlimit_number(std::string_view name) {
  for (const auto& [known, number] : kRlimits) {
    if (known == name) return number;
  }
  return std::nullopt;
}

Result<bool> set_rlimit(int resource, std::uint64_t soft, std::uint64_t hard) {
  if (soft > hard) return fail(Code::kInvalid, "the soft limit is above the hard one");
  const rlimit64 wanted{soft, hard};
  const auto which = static_cast<__rlimit_resource>(resource);
  if (::prlimit64(0, which, &wanted, nullptr) == 0) return true;
  const int e = errno;
  if (e != EPERM) return fail_errno(e, "prlimit " + std::to_string(resource));
  rlimit64 old{};
  if (::prlimit64(0, which, nullptr, &old) != 0) return fail_errno(errno, "prlimit " + std::to_string(resource));
  const rlimit64 clamped{std::min<std::uint64_t>(soft, old.rlim_max), std::min<std::uint64_t>(hard, old.rlim_max)};
  if (::prlimit64(0, which, &clamped, nullptr) != 0) return fail_errno(errno, "prlimit " + std::to_string(resource));
  return false;
}

Result<> set_no_new_privs() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno(errno, "set no_new_privs");
  return {};
}

Result<> set_parent_death_signal(int signal) {
  if (::prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) != 0) return fail_errno(errno, "set the parent-death signal");
  return {};
}

Result<> set_dumpable(bool on) {
  if (::prctl(PR_SET_DUMPABLE, on ? 1 : 0, 0, 0, 0) != 0) return fail_errno(errno, "set dumpable");
  return {};
}

Result<> join_session_keyring(const char* name) {
  if (::syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name) < 0) return fail_errno(errno, "join a session keyring");
  return {};
}

Result<> set_personality(unsigned long persona) {
  if (::personality(persona) < 0) return fail_errno(errno, "personality");
  return {};
}

Result<> set_scheduler(const SchedAttributes& attributes) {
  KernelSchedAttr attr{};
  attr.size = sizeof attr;
  attr.policy = attributes.policy;
  attr.flags = attributes.flags;
  attr.nice = attributes.nice;
  attr.priority = attributes.priority;
  attr.runtime = attributes.runtime;
  attr.deadline = attributes.deadline;
  attr.period = attributes.period;
  if (::syscall(SYS_sched_setattr, 0, &attr, 0) != 0) return fail_errno(errno, "sched_setattr");
  return {};
}

Result<> set_cpu_affinity(std::span<const std::uint64_t> cpus) {
  // The kernel takes sets that are longer than its own.
  if (::syscall(SYS_sched_setaffinity, 0, cpus.size_bytes(), cpus.data()) != 0) {
    return refused_value(errno, "sched_setaffinity");
  }
  return {};
}

Result<> set_memory_policy(int mode, std::span<const std::uint64_t> nodes) {
  // The kernel looks at one bit less than it is told of (set_mempolicy(2), "BUGS" of get_mempolicy(2)).
  const std::size_t bits = nodes.empty() ? 0 : nodes.size() * 64 + 1;
  if (::syscall(SYS_set_mempolicy, mode, nodes.empty() ? nullptr : nodes.data(), bits) != 0) {
    return refused_value(errno, "set_mempolicy");
  }
  return {};
}

Result<> set_io_priority(int io_class, int priority) {
  constexpr int kWhoProcess = 1;   // IOPRIO_WHO_PROCESS
  constexpr int kClassShift = 13;  // IOPRIO_CLASS_SHIFT, ioprio_set(2)
  if (::syscall(SYS_ioprio_set, kWhoProcess, 0, (io_class << kClassShift) | priority) != 0) {
    return fail_errno(errno, "ioprio_set");
  }
  return {};
}

Result<> take_terminal(int tty_fd) {
  if (::setsid() < 0) return fail_errno(errno, "setsid");
  if (::ioctl(tty_fd, TIOCSCTTY, 0) != 0) return fail_errno(errno, "take the controlling terminal");
  return {};
}

Result<> set_window_size(int tty_fd, unsigned short rows, unsigned short columns) {
  winsize size{};
  size.ws_row = rows;
  size.ws_col = columns;
  if (::ioctl(tty_fd, TIOCSWINSZ, &size) != 0) return fail_errno(errno, "set the window size");
  return {};
}

void reset_signals() {
  // exec itself gives handled signals their default; only those that somebody ignores live on.
  constexpr std::array<int, 9> kOftenIgnored{SIGPIPE, SIGHUP,  SIGINT,  SIGQUIT, SIGTERM,
                                             SIGCHLD, SIGTSTP, SIGTTIN, SIGTTOU};
  struct sigaction action{};
  action.sa_handler = SIG_DFL;
  for (const int signal : kOftenIgnored) ::sigaction(signal, &action, nullptr);
  // glibc's posix_spawn leaves its two internal signals ignored in the child, and its sigaction refuses to touch them.
  struct {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)();
    std::uint64_t mask;
  } kernel_default{SIG_DFL, 0, nullptr, 0};
  for (const int signal : {32, 33})
    ::syscall(SYS_rt_sigaction, signal, &kernel_default, nullptr, sizeof(std::uint64_t));
  sigset_t none;
  sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace berth::os
