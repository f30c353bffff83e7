#pragma once
#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "os/cgroup.h"

namespace berth::engine::external {

/// A cgroup below a container's for one exec, so that what it starts can be ended with it. The runtime moves the
/// process there: a v1 runtime wants it in every hierarchy that the container is in. `container`: the path of the
/// container's cgroup; `sub`: a name.
[[nodiscard]] Result<> make_exec_cgroup(const os::CgroupLayout& layout, const std::string& container,
                                        const std::string& sub);
/// Moves `pid`, which runs in the container's cgroup, into the exec's, and the children that it has by then.
[[nodiscard]] Result<> move_to_exec_cgroup(const os::CgroupLayout& layout, const std::string& container,
                                           const std::string& sub, pid_t pid);
/// With `kill` ends every process in it. Removes it if nothing is in it any more: true when it is gone. Idempotent.
[[nodiscard]] Result<bool> end_exec_cgroup(const os::CgroupLayout& layout, const std::string& container,
                                           const std::string& sub, bool kill);
/// Removes the container's cgroup from the v2 hierarchy beside v1's, which runtimes make there and `process::Cgroup`
/// does not know of. Success when it is not there or not empty.
void forget_unified(const os::CgroupLayout& layout, const std::string& container);

}  // namespace berth::engine::external
