#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "base/result.h"
#include "os/spawn.h"

namespace berth::cri {

struct ShimStart {
  std::string shim_path;
  std::string pod_dir;  ///< its working folder
  std::string sandbox_id;
  std::string filter_cache{};        ///< folder where it keeps compiled seccomp filters for all pods; empty: none
  std::vector<os::FdMapping> fds{};  ///< more that it gets; borrowed
  int netns_fd = -1;                 ///< the network namespace to start it in; borrowed; -1: ours
  std::chrono::milliseconds timeout{15'000};
};

/// Starts a pod's shim (`serve`) and waits until it says that it listens. The caller reaps it. Errors: what the shim
/// wrote to its log, when it ended; kTimeout, and it is killed, when it says nothing. Blocks.
Result<os::Child> start_shim(const ShimStart& start);

/// The socket of a shim in `pod_dir`.
[[nodiscard]] std::string shim_socket(const std::string& pod_dir);

/// Kills the process and waits for its end, at most `timeout`; reaps it when it is ours. kTimeout it does not die.
Result<> end_process(int pidfd, std::chrono::milliseconds timeout);

/// Runs the shim's `delete` action, which clears the cgroups that a dead shim's containers left.
Result<> clean_after_shim(const std::string& shim_path, const std::string& pod_dir, const std::string& sandbox_id);

/// A running shim process, found by its command line.
struct FoundShim {
  pid_t pid = 0;
  UniqueFd pidfd;  ///< opened before the look: what was looked at is what it stands for
  std::string sandbox_id;
};
/// All processes that were started as `shim_path`, for pods of whichever daemon. Reads all of /proc.
Result<std::vector<FoundShim>> find_shims(const std::string& shim_path);
/// Kills every one that was started for `sandbox_id`. For a pod that the daemon died over before it had noted the pid.
Result<> kill_unrecorded_shims(const std::string& shim_path, const std::string& sandbox_id);

}  // namespace berth::cri
