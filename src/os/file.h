#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

/// Files, folders and descriptors. Every descriptor is CLOEXEC; EINTR is retried; paths hold no NUL. All block on disk.
namespace berth::os {

/// open(2). O_CLOEXEC is added. Error text names the path.
Result<UniqueFd> open_file(const std::string& path, int flags, mode_t mode = 0644);
/// openat(2) below `dir_fd` (borrowed). O_CLOEXEC is added.
Result<UniqueFd> open_at(int dir_fd, const std::string& path, int flags, mode_t mode = 0644);
/// openat2(2) below `root_fd` (borrowed) with `resolve` (RESOLVE_IN_ROOT, RESOLVE_BENEATH, ...). Retries EAGAIN a
/// bounded number of times (a rename raced with the look-up). kUnsupported where the kernel has no openat2.
Result<UniqueFd> open_in(int root_fd, const std::string& path, int flags, std::uint64_t resolve, mode_t mode = 0);

/// The whole file, at most `limit` bytes; a larger one is kExhausted and nothing is kept. Works for /proc and cgroup
/// files.
Result<std::string> read_file(const std::string& path, std::size_t limit);
/// The same of a regular file alone: nothing that could block, or never end. kInvalid: it is none.
Result<std::string> read_regular_file(const std::string& path, std::size_t limit);
Result<std::string> read_file_at(int dir_fd, const std::string& path, std::size_t limit);
/// A text that differs when another file is at `path` or it has changed (inode and time of change); "": there is none.
[[nodiscard]] std::string file_mark(const std::string& path);
/// All that is left in `fd`, at most `limit` bytes.
Result<std::string> read_all(int fd, std::size_t limit);
/// Every byte, or an error.
Result<> write_all(int fd, std::string_view data);
/// Opens an existing file (no O_CREAT) and writes `data` in one write(2): for /proc, /sys and cgroup files.
Result<> write_existing(const std::string& path, std::string_view data);
Result<> write_existing_at(int dir_fd, const std::string& path, std::string_view data);

/// Every byte at `offset`, or an error; the file position stays.
Result<> write_at(int fd, std::string_view data, off_t offset);
/// flock(2), exclusive, without waiting: false when somebody else holds it. It goes with the open file.
Result<bool> try_lock(int fd);

enum class Sync : std::uint8_t { kNo, kYes };
/// Replaces `path` by `data`: temporary name beside it, optional fsync of file and folder, rename. After a crash the
/// old or the new content is there, never a part.
Result<> write_file_atomic(const std::string& path, std::string_view data, mode_t mode = 0644, Sync sync = Sync::kNo);

/// mkdir -p: `mode` for each folder made; existing ones stay as they are.
Result<> make_dirs(const std::string& path, mode_t mode = 0755);
/// rm -rf without following links or crossing below anything but `path` itself; absent is success. Does not cross
/// mounts when `one_filesystem`: a mount point met is kPrecondition (EXDEV) and stays.
Result<> remove_tree(const std::string& path, bool one_filesystem = true);
/// unlink(2); absent is success.
Result<> remove_file(const std::string& path);
/// Names in a folder without "." and "..", sorted.
Result<std::vector<std::string>> list_dir(const std::string& path);
[[nodiscard]] bool exists(const std::string& path);
Result<> fsync_path(const std::string& path);
/// pipe2(O_CLOEXEC | flags).
struct Pipe {
  UniqueFd read;
  UniqueFd write;
};
Result<Pipe> make_pipe(int flags = 0);
/// fcntl(F_DUPFD_CLOEXEC).
Result<UniqueFd> dup_fd(int fd);

}  // namespace berth::os
