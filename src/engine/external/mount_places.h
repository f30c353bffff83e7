#pragma once
#include <string>

#include "base/result.h"
#include "engine/engine.h"

/// CreateRequest::mount_trees for engines whose runtime knows mounts by paths alone.
namespace berth::engine::external {

/// Attaches each tree at a place in the bundle, in the caller's mount namespace, and makes it the source of its mount.
/// After an error some may be attached.
Result<> attach_mount_trees(CreateRequest& request);
/// Takes them away again, whatever of it is there. What lies in a tree stays as it is for its peers.
Result<> detach_mount_trees(const std::string& bundle);

}  // namespace berth::engine::external
