#pragma once
#include "base/result.h"
#include "spec/runtime.h"

namespace berth::engine::process {

/// Refuses sysctls that are not the container's own: each needs its namespace, made or joined. Pure.
/// kInvalid names the sysctl. Source: runtime-spec config-linux.md "Sysctl"; namespaces(7).
Result<> check_sysctls(const spec::Linux& config);
/// Writes them through `proc_fd`, a verified procfs, from inside the container's namespaces.
Result<> write_sysctls(const spec::Linux& config, int proc_fd);

}  // namespace berth::engine::process
