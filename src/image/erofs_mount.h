#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::image {

/// Mounts the EROFS index `index` over the archives `archives` (its devices, in order), read-only, as a detached mount:
/// nothing shows it, and it is gone with its descriptor and the last file system that stands on it. Files, not block
/// devices: Linux 6.12 or later. Blocks on disk. Errors: kUnsupported the kernel cannot; kCorrupt no index of ours;
/// else by errno. Source: Linux Documentation/filesystems/erofs.rst; fsopen(2).
Result<UniqueFd> mount_erofs(const std::string& index, const std::vector<std::string>& archives);

/// Whether this kernel mounts an index of 512-byte blocks from files in `folder`, and overlayfs takes the mount as its
/// lower directory by the path of its descriptor: tried with a small one. `folder`: existing; what is made there is
/// taken away again. The error says what it cannot.
Result<> probe_erofs(const std::string& folder);

/// A path by which other processes reach what `fd` of this process refers to.
[[nodiscard]] std::string path_of(int fd);

}  // namespace berth::image
