#pragma once
#include <sys/types.h>

#include "base/result.h"
#include "spec/runtime.h"

namespace berth::engine::process {

/// The text of /proc/PID/uid_map for `mappings`.
[[nodiscard]] std::string id_map_text(const std::vector<spec::IdMapping>& mappings);

/// Writes the id maps of a process that has just made a user namespace. Without privileges over other ids a single
/// mapping of the caller's own works; more needs newuidmap and newgidmap, which are run then.
Result<> write_id_maps(pid_t pid, const spec::Linux& config);

/// Maps ids on a detached bind mount: by the mount's own maps, or by the container's where it has none.
/// kUnsupported where the file system cannot. Source: mount_setattr(2) "ID-mapped mounts".
Result<> apply_idmap(int tree_fd, const spec::Spec& spec, const spec::Mount& mount, bool recursive);

}  // namespace berth::engine::process
