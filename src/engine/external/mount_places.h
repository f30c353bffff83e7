#pragma once
#include <string>

#include "base/result.h"
#include "engine/engine.h"

/// CreateRequest::mount_trees for engines whose runtime knows mounts by paths alone.
namespace berth::engine::external {

/// Attaches each tree at `<bundle>/mounts/<index>`, in the caller's mount namespace, and makes it the source of its
/// mount. `<bundle>/mounts` is made a private mount of its own for it. After an error some may be attached.
Result<> attach_mount_trees(CreateRequest& request);
/// Takes them away again, whatever of it is there: makes `<bundle>/mounts` private with all that is mounted below it,
/// in layers too, then detaches it as a whole, then removes the empty places. Peers of a tree keep what is mounted on
/// or in it, and its files are never touched. Idempotent. Errors: EBUSY something is still mounted at a place, as where
/// the folder is no mount of its own; ENOTEMPTY a place holds files. Both stay.
Result<> detach_mount_trees(const std::string& bundle);

}  // namespace berth::engine::external
