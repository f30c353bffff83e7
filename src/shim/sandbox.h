#pragma once
#include <string>

#include "base/result.h"
#include "shim/sandbox_config.h"

namespace berth::shim {

/// Gives the calling process, which must have one thread, what `config` asks for: a mount namespace of its own
/// (recursive slave of the one it came from), the pod's IPC and UTS namespaces, hostname, sysctls, and a tmpfs at
/// `folder`/shm that nobody outside sees. With `user_namespace` the last two are joined instead of made, and its
/// descriptor stays open. `folder`: absolute or ".". All of it goes with the process; only the empty
/// folder `shm` stays. Errors: kDenied a sysctl that is not the pod's; else by errno, naming the step.
[[nodiscard]] Result<> enter_sandbox(const SandboxConfig& config, const std::string& folder);

/// Under systemd: moves the caller, and with it whom it starts from now on, into the pod's own scope. Else nothing.
/// Blocks on systemd.
[[nodiscard]] Result<> enter_scope(const SandboxConfig& config);

/// The mount namespace alone, for a process that works on what a shim left.
[[nodiscard]] Result<> enter_private_mounts();

/// Makes the process harder for the kernel to choose when memory is short, as far as it is allowed to (-998).
/// Returns the value that children are to be given back, when it has changed.
struct OomProtection {
  bool changed = false;
  int before = 0;
};
[[nodiscard]] OomProtection protect_from_oom();

}  // namespace berth::shim
