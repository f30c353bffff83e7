#include "os/pidfd.h"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "base/strings.h"
#include "os/file.h"

namespace berth::os {

Result<UniqueFd> open_pidfd(pid_t pid) {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd) {
    const int error = errno;
    const std::string what = "pidfd_open of pid " + std::to_string(pid);
    if (error == ESRCH) return fail(Code::kNotFound, what + ": no such process", error);
    return fail_errno(error, what);
  }
  return fd;
}

Result<> pidfd_signal(int pidfd, int signal) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) == 0) return {};
  const int error = errno;
  if (error == ESRCH)
    return fail(Code::kNotFound, "signal " + std::to_string(signal) + ": the process has ended", error);
  return fail_errno(error, "send signal " + std::to_string(signal));
}

Result<UniqueFd> pidfd_fetch_fd(int pidfd, int fd) {
  UniqueFd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, fd, 0)));
  if (!copy) {
    const int error = errno;
    const std::string what = "pidfd_getfd of descriptor " + std::to_string(fd);
    if (error == ESRCH) return fail(Code::kNotFound, what + ": the process has ended", error);
    return fail_errno(error, what);
  }
  return copy;
}

Result<std::optional<ProcessEnd>> reap(int pidfd) {
  siginfo_t info{};
  int result = 0;
  do {
    result = ::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG);
  } while (result != 0 && errno == EINTR);
  if (result != 0) {
    const int error = errno;
    if (error == ECHILD) return fail(Code::kNotFound, "reap: not a child of this process", error);
    return fail_errno(error, "waitid");
  }
  if (info.si_pid == 0) return std::optional<ProcessEnd>{};
  return ProcessEnd{info.si_code != CLD_EXITED, info.si_status};
}

Result<bool> wait_readable(int fd, std::chrono::milliseconds timeout) {
  using std::chrono::steady_clock;
  const auto end = steady_clock::now() + timeout;
  pollfd entry{fd, POLLIN, 0};
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - steady_clock::now()).count();
    const int wait = static_cast<int>(std::clamp<long long>(left, 0, std::numeric_limits<int>::max()));
    const int count = ::poll(&entry, 1, wait);
    if (count > 0) return true;
    if (count == 0) return false;
    if (errno != EINTR) return fail_errno(errno, "poll");
  }
}

Result<std::uint64_t> process_start_time(pid_t pid) {
  auto text = read_file("/proc/" + std::to_string(pid) + "/stat", 4096);
  if (!text) {
    if (text.error().errno_value() == ESRCH) return fail(std::move(text).error().as(Code::kNotFound));
    return fail(std::move(text).error());
  }
  // The command's name in parentheses may hold anything, so count from its last ')': field 3 follows.
  const auto close = text->rfind(')');
  if (close == std::string::npos) return fail(Code::kInternal, "no command name in /proc/PID/stat");
  const auto fields = split(trim(std::string_view(*text).substr(close + 1)), ' ');
  const auto start = fields.size() > 19 ? parse_number<std::uint64_t>(fields[19]) : std::nullopt;
  if (!start) return fail(Code::kInternal, "no start time in /proc/PID/stat");
  return *start;
}

}  // namespace berth::os
