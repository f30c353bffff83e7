#pragma once
#include <chrono>
#include <string>

#include "base/result.h"
#include "os/spawn.h"

namespace berth::cri {

struct ShimStart {
  std::string shim_path;
  std::string pod_dir;  ///< its working folder
  std::string sandbox_id;
  std::string filter_cache{};  ///< folder where it keeps compiled seccomp filters for all pods; empty: none
  int netns_fd = -1;           ///< the network namespace to start it in; borrowed; -1: ours
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

/// Kills every running shim process that was started for `sandbox_id`, found by its command line. For a pod that the
/// daemon died over before it had noted the pid. Answers how many.
Result<unsigned> kill_unrecorded_shims(const std::string& shim_path, const std::string& sandbox_id);

}  // namespace berth::cri
