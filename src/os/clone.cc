#include "os/clone.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "base/strings.h"
#include "os/file.h"

namespace berth::os {

Result<Cloned> clone_process(const CloneOptions& options) {
  clone_args args{};
  int pidfd = -1;
  args.flags = options.flags | CLONE_PIDFD;
  args.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  args.exit_signal = (options.flags & CLONE_PARENT) != 0 ? 0 : SIGCHLD;
  if (options.cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<std::uint64_t>(options.cgroup_fd);
  }
  const long pid = ::syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0) {
    const int e = errno;
    return fail_errno(e, "clone3 flags " + std::to_string(args.flags));
  }
  Cloned cloned;
  cloned.pid = static_cast<pid_t>(pid);
  if (pid > 0) cloned.pidfd.reset(pidfd);
  return cloned;
}

Result<int> reap_pidfd(int pidfd) {
  siginfo_t info{};
  int result = 0;
  do {
    result = ::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return fail_errno(errno, "waitid");
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

Result<> close_from(unsigned first) {
  if (::syscall(SYS_close_range, first, ~0U, 0) != 0) return fail_errno(errno, "close_range");
  return {};
}

Result<ProcessTimes> process_times(pid_t pid) {
  constexpr std::size_t kStatLimit = 4096;
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  BERTH_ASSIGN(const std::string text, read_file(path, kStatLimit), "read the start time");
  // The second field is the name in parentheses and may hold anything: count from its end. What follows is field 3 on.
  const std::size_t close = text.rfind(')');
  if (close == std::string::npos || close + 2 >= text.size()) return fail(Code::kCorrupt, path + " has no name field");
  constexpr std::size_t kStartTimeAfterName = 19;  // field 22, proc(5)
  const auto fields = split(std::string_view(text).substr(close + 2), ' ');
  if (fields.size() <= kStartTimeAfterName) return fail(Code::kCorrupt, path + " is short");
  const auto start = parse_number<std::uint64_t>(fields[kStartTimeAfterName]);
  if (!start || fields[0].empty()) return fail(Code::kCorrupt, path + " has no start time");
  constexpr std::size_t kFlagsAfterName = 6;  // field 9
  constexpr std::uint32_t kExiting = 0x4;     // PF_EXITING of include/linux/sched.h, which proc(5) shows
  const auto flags = parse_number<std::uint32_t>(fields[kFlagsAfterName]);
  return ProcessTimes{*start, fields[0][0], flags && (*flags & kExiting) != 0};
}

std::unexpected<Error> exec_program(const char* path, char* const* argv, char* const* envp) {
  ::execve(path, argv, envp);
  const int e = errno;
  return fail_errno(e, std::string("exec ") + path);
}

std::unexpected<Error> exec_fd(int fd, char* const* argv, char* const* envp) {
  ::syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH);
  return fail_errno(errno, "execveat");
}

}  // namespace berth::os
