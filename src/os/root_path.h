#pragma once
#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

/// Paths below a container's root. Every look-up is one openat2(2) with RESOLVE_IN_ROOT from the root's descriptor, so
/// that symlinks and ".." stay inside whoever races with us; the answer is a descriptor, and no path string is used
/// twice. `root_fd` is borrowed; `path` is taken as below the root with or without a leading "/", no NUL.
namespace berth::os {

/// What `path` leads to, symlinks followed, as an O_PATH descriptor (`extra_flags` are or'ed in: O_DIRECTORY, ...).
/// Magic links of /proc are not followed (kNotFound or kInternal ELOOP).
Result<UniqueFd> open_in_root(int root_fd, const std::string& path, int extra_flags = 0);
/// The same for reading or writing instead of O_PATH.
Result<UniqueFd> open_file_in_root(int root_fd, const std::string& path, int flags);

/// The folder at `path`, made with all that is missing above it (`mode`, less the umask). Dangling symlinks are
/// followed inside the root, at most 40. kInvalid when something on the way is no folder. `existed`, if not nullptr,
/// tells whether it was there before.
Result<UniqueFd> make_dir_in_root(int root_fd, const std::string& path, mode_t mode = 0755, bool* existed = nullptr);
/// The file at `path`, made empty when missing, with the folders above it. An O_PATH descriptor. A folder there is
/// returned as it is: what can be mounted on what is the kernel's to say.
Result<UniqueFd> make_file_in_root(int root_fd, const std::string& path, mode_t mode = 0644);

/// Splits "a/b/c" in ("a/b", "c"); trailing slashes do not count; no slash gives ("", path).
void split_parent(const std::string& path, std::string& parent, std::string& name);

/// An O_PATH descriptor of the caller's /proc, checked to be the root of a procfs. Source: CVE-2019-16884,
/// CVE-2025-52881.
Result<UniqueFd> open_verified_proc();
/// Writes an existing file below such a descriptor, never crossing a mount or leaving procfs by a link.
Result<> write_proc(int proc_fd, const std::string& path, std::string_view data);

}  // namespace berth::os
