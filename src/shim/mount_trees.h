#pragma once
#include <map>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "spec/runtime.h"

namespace berth::shim {

using MountTrees = std::map<std::size_t, UniqueFd>;

/// Makes the mounts of a specification that no path of the container's or the shim's mount namespace stands for. The
/// daemon marks them by options of its own (docs/shim.md):
///   X-berth.host            the source as it is in the host's mount namespace: the copy is one of its peers
///   X-berth.image           the layers of an image, which the other options name as those of a root file system
///   X-berth.sub-path=PATH   with X-berth.image: what is at PATH in it; links stay inside
/// `spec`: each becomes a bind mount without these options. `host_mounts`: a file of the host's mount namespace; -1:
/// the caller is in it. `place`: an existing empty folder on which something is mounted for a moment. Returns detached
/// mounts by index in spec.mounts. For a process with one thread. Errors name the mount.
[[nodiscard]] Result<MountTrees> make_mount_trees(spec::Spec& spec, int host_mounts, const std::string& place);

}  // namespace berth::shim
