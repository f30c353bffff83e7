#pragma once
#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::os {

struct FoundProcess {
  pid_t pid = 0;
  UniqueFd pidfd;
  std::vector<std::string> words;  ///< its command line, at least one
};

/// The processes of /proc whose command line `wanted` accepts. Each is held by a descriptor that is older than the look
/// at its command line, so that a number that was given away meanwhile leads to nobody. Those that end during the look
/// are left out; of long command lines the first 64 KiB count. Source: proc_pid_cmdline(5).
Result<std::vector<FoundProcess>> find_processes(
    const std::function<bool(const std::vector<std::string>& words)>& wanted);

}  // namespace berth::os
