#pragma once
#include <string>
#include <vector>

#include "base/result.h"

namespace berth::shim {

/// A folder as a tar archive. `kLayer`: a writable layer of overlayfs as the changes that an OCI layer says: what hides
/// a lower entry becomes ".wh.NAME", what hides a whole folder ".wh..wh..opq". `kPlain`: as it is.
enum class TreeKind : bool { kPlain, kLayer };

/// Writes what is below `root_fd` to `out_fd`; both borrowed. Nothing is followed out of the folder. Kept: owner, mode,
/// times, hard links, xattrs user.*, security.capability and POSIX ACLs. Sockets are left out: they are of processes.
/// `deleted`: gets the paths that a layer hides, with "/" before them; may be nullptr. Blocks on disk; what changes
/// meanwhile may be half of one time and half of another. Errors: kExhausted a tree too deep, a full disk; else by
/// errno. Source: image-spec layer.md; kernel Documentation/filesystems/overlayfs.rst.
[[nodiscard]] Result<> write_tree_tar(int root_fd, TreeKind kind, int out_fd, std::vector<std::string>* deleted);

}  // namespace berth::shim
