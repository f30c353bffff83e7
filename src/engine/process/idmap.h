#pragma once
#include <sys/types.h>

#include "base/result.h"
#include "base/unique_fd.h"
#include "spec/runtime.h"

namespace berth::engine::process {

/// The text of /proc/PID/uid_map for `mappings`.
[[nodiscard]] std::string id_map_text(const std::vector<spec::IdMapping>& mappings);

/// Writes the id maps of a process that has just made a user namespace. Without privileges over other ids a single
/// mapping of the caller's own works; more needs newuidmap and newgidmap, which are run then.
Result<> write_id_maps(pid_t pid, const spec::Linux& config);

/// A user namespace with the id maps of a mount: its own, or the container's where it has none. kInvalid: neither has.
Result<UniqueFd> open_id_map(const spec::Spec& spec, const spec::Mount& mount);
/// Maps ids on a detached mount. kUnsupported where its file system cannot. Source: mount_setattr(2) "ID-mapped
/// mounts".
Result<> apply_id_map(int tree_fd, int map_fd, bool recursive);

}  // namespace berth::engine::process
