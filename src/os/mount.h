#pragma once
#include <sys/mount.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

/// The kernel's mount calls on descriptors. A "tree" is a mount that nothing shows yet (fsmount, open_tree with clone);
/// it is gone when its descriptor is closed unless it was attached. All block; none retries EINTR; usable after fork in
/// a single-threaded program. Errors name call, file system or path, and flags. Source: the man pages of the calls.
namespace berth::os {

/// fsopen(2): a context in which a file system of `type` is configured.
Result<UniqueFd> fs_open(const std::string& type);
/// One key of a context. `value` nullptr: a flag without value.
Result<> fs_set(int context_fd, const std::string& key, const char* value);
/// Makes the superblock and returns its tree with `attributes` (MOUNT_ATTR_*). The kernel's own words about what it did
/// not like stand in the error.
Result<UniqueFd> fs_mount(int context_fd, std::uint64_t attributes);

/// open_tree(2) with OPEN_TREE_CLONE: a copy of the mount at `path` below `dir_fd` ("" is dir_fd itself), with those
/// below it if `recursive`. Follows symlinks as open(2) does: paths inside a container go through open_in_root first.
Result<UniqueFd> clone_tree(int dir_fd, const std::string& path, bool recursive);

/// move_mount(2): attaches `tree_fd` on what `target_fd` refers to.
Result<> attach_tree(int tree_fd, int target_fd);
/// move_mount(2) onto a path of the caller's.
Result<> attach_tree_at(int tree_fd, const std::string& target);

/// What mount_setattr(2) changes: attributes to set and to clear, propagation (MS_PRIVATE ...; 0: as is), id map.
struct MountChange {
  std::uint64_t set = 0;
  std::uint64_t clear = 0;
  std::uint64_t propagation = 0;
  int user_ns_fd = -1;  ///< with MOUNT_ATTR_IDMAP in `set`; borrowed

  [[nodiscard]] bool empty() const { return set == 0 && clear == 0 && propagation == 0; }
};
/// Changes the mount that `mount_fd` refers to, and those below it if `recursive`.
Result<> change_mount(int mount_fd, const MountChange& change, bool recursive);
/// The same for the mount at `path` of the caller's mount namespace.
Result<> change_mount_at(const std::string& path, const MountChange& change, bool recursive);

/// umount2(2) with MNT_DETACH, never following a symlink.
Result<> detach_mount(const std::string& path);

/// Makes the mount `root_fd`, which is attached in the caller's mount namespace, its root, with "/" as the working
/// folder, and detaches the old root with everything on it. Source: pivot_root(2), the variant pivot_root(".", ".").
Result<> pivot_into(int root_fd);
/// fchdir(2), chroot("."), chdir("/").
Result<> chroot_into(int root_fd);

/// "ro,nosuid"-like text of MOUNT_ATTR_* bits, for messages.
[[nodiscard]] std::string mount_attr_text(std::uint64_t attributes);

}  // namespace berth::os
