#include "os/process_exe.h"

#include <sys/stat.h>

#include <cerrno>
#include <string>

#include "os/pidfd.h"

namespace berth::os {

Result<Executed> executed_file(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/exe";
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return fail_errno(errno, "stat " + path);
  return Executed{info.st_dev, info.st_ino};
}

Awaited wait_for_exec(pid_t pid, int pidfd, const Executed& before, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (std::chrono::steady_clock::now() < deadline) {
    const auto now = executed_file(pid);
    if (!now) return Awaited::kEnd;
    if (*now != before) return Awaited::kExec;
    const auto ended = wait_readable(pidfd, std::chrono::milliseconds(1));
    if (!ended || *ended) return Awaited::kEnd;
  }
  return Awaited::kNothing;
}

}  // namespace berth::os
