#include "os/file.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "base/ids.h"

namespace berth::os {
namespace {

// Reads in steps that grow with the file, so that a small one costs one small buffer.
constexpr std::size_t kFirstRead = 4096;
constexpr int kOpenat2Tries = 128;
// Folder depth that remove_tree follows; each level holds one descriptor.
constexpr int kMaxTreeDepth = 512;

struct DirCloser {
  void operator()(DIR* dir) const { ::closedir(dir); }
};
using UniqueDir = std::unique_ptr<DIR, DirCloser>;

std::unexpected<Error> too_large(std::size_t limit) {
  return fail(Code::kExhausted, "larger than " + std::to_string(limit) + " bytes", EFBIG);
}

}  // namespace

Result<UniqueFd> open_file(const std::string& path, int flags, mode_t mode) {
  return open_at(AT_FDCWD, path, flags, mode);
}

Result<UniqueFd> open_at(int dir_fd, const std::string& path, int flags, mode_t mode) {
  int fd = -1;
  do {
    fd = ::openat(dir_fd, path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return fail_errno(errno, "open " + path);
  return UniqueFd(fd);
}

Result<UniqueFd> open_in(int root_fd, const std::string& path, int flags, std::uint64_t resolve, mode_t mode) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC;
  how.mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? mode : 0;
  how.resolve = resolve;
  for (int i = 0; i < kOpenat2Tries; ++i) {
    const long fd = ::syscall(SYS_openat2, root_fd, path.c_str(), &how, sizeof how);
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    if (errno != EINTR && errno != EAGAIN) break;
  }
  return fail_errno(errno, "open " + path);
}

Result<std::string> read_all(int fd, std::size_t limit) {
  std::string data;
  // Mostly it is a small file of the kernel's: no memory is cleared for what may come.
  std::array<char, kFirstRead> small;
  while (data.size() < kFirstRead) {
    ssize_t n = 0;
    do {
      n = ::read(fd, small.data(), std::min(small.size(), limit - data.size() + 1));
    } while (n < 0 && errno == EINTR);
    if (n < 0) return fail_errno(errno, "read");
    if (n == 0) return data;
    data.append(small.data(), static_cast<std::size_t>(n));
    if (data.size() > limit) return too_large(limit);
  }
  std::size_t step = 2 * kFirstRead;
  while (true) {
    const std::size_t at = data.size();
    data.resize(at + std::min(step, limit - at + 1));
    ssize_t n = 0;
    do {
      n = ::read(fd, data.data() + at, data.size() - at);
    } while (n < 0 && errno == EINTR);
    if (n < 0) return fail_errno(errno, "read");
    data.resize(at + static_cast<std::size_t>(n));
    if (n == 0) return data;
    if (data.size() > limit) return too_large(limit);
    step = std::min<std::size_t>(step * 2, 1U << 20);
  }
}

Result<std::string> read_file(const std::string& path, std::size_t limit) {
  return read_file_at(AT_FDCWD, path, limit);
}

std::string file_mark(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return {};
  return std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino) + ":" + std::to_string(info.st_ctim.tv_sec) +
         "." + std::to_string(info.st_ctim.tv_nsec);
}

Result<std::string> read_regular_file(const std::string& path, std::size_t limit) {
  BERTH_ASSIGN(const UniqueFd fd, open_file(path, O_RDONLY | O_NONBLOCK | O_NOCTTY), "read");
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return fail_errno(errno, "stat " + path);
  if (!S_ISREG(info.st_mode)) return fail(Code::kInvalid, path + " is no regular file");
  auto data = read_all(fd.get(), limit);
  if (!data) return fail(std::move(data).error().in("read " + path));
  return data;
}

Result<std::string> read_file_at(int dir_fd, const std::string& path, std::size_t limit) {
  auto fd = open_at(dir_fd, path, O_RDONLY);
  if (!fd) return fail(std::move(fd).error());
  auto data = read_all(fd->get(), limit);
  if (!data) return fail(std::move(data).error().in("read " + path));
  return data;
}

Result<> write_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t n = ::write(fd, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "write");
    data.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

Result<> write_at(int fd, std::string_view data, off_t offset) {
  while (!data.empty()) {
    const ssize_t n = ::pwrite(fd, data.data(), data.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "pwrite");
    data.remove_prefix(static_cast<std::size_t>(n));
    offset += n;
  }
  return {};
}

Result<bool> try_lock(int fd) {
  for (;;) {
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) return fail_errno(errno, "flock");
  }
}

Result<> write_existing(const std::string& path, std::string_view data) {
  return write_existing_at(AT_FDCWD, path, data);
}

Result<> write_existing_at(int dir_fd, const std::string& path, std::string_view data) {
  auto fd = open_at(dir_fd, path, O_WRONLY);
  if (!fd) return fail(std::move(fd).error());
  ssize_t n = 0;
  do {
    n = ::write(fd->get(), data.data(), data.size());
  } while (n < 0 && errno == EINTR);
  if (n != static_cast<ssize_t>(data.size())) {
    const int error = n < 0 ? errno : EIO;
    return fail_errno(error, "write \"" + std::string(data.substr(0, 128)) + "\" to " + path);
  }
  return {};
}

Result<> write_file_atomic(const std::string& path, std::string_view data, mode_t mode, Sync sync) {
  const std::string temporary = path + ".tmp-" + random_hex(4);
  auto fd = open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, mode);
  if (!fd) return fail(std::move(fd).error());
  auto written = write_all(fd->get(), data);
  if (written && sync == Sync::kYes && ::fsync(fd->get()) != 0) written = fail_errno(errno, "fsync");
  if (written && ::rename(temporary.c_str(), path.c_str()) != 0) written = fail_errno(errno, "rename");
  if (!written) {
    ::unlink(temporary.c_str());
    return fail(std::move(written).error().in("write " + path));
  }
  if (sync == Sync::kYes) {
    const auto slash = path.rfind('/');
    return fsync_path(slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1)));
  }
  return {};
}

Result<> make_dirs(const std::string& path, mode_t mode) {
  if (path.empty()) return fail(Code::kInvalid, "make folder: empty path");
  if (::mkdir(path.c_str(), mode) == 0) return {};
  if (errno == ENOENT) {
    const auto slash = path.find_last_of('/', path.find_last_not_of('/'));
    if (slash == std::string::npos || slash == 0) return fail_errno(ENOENT, "make folder " + path);
    BERTH_TRY(make_dirs(path.substr(0, slash), mode), "make folder " + path);
    if (::mkdir(path.c_str(), mode) == 0) return {};
  }
  const int error = errno;
  struct stat info{};
  if (error == EEXIST && ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return {};
  return fail_errno(error == EEXIST ? ENOTDIR : error, "make folder " + path);
}

namespace {

// Empties the folder behind `fd` (taken).
Result<> remove_children(UniqueFd fd, const std::string& name, dev_t device, bool one_filesystem, int depth) {
  if (depth > kMaxTreeDepth) return fail(Code::kExhausted, name + ": more than 512 folders deep");
  const int dir_fd = fd.release();
  const UniqueDir dir(::fdopendir(dir_fd));
  if (!dir) {
    const int error = errno;
    ::close(dir_fd);
    return fail_errno(error, "list " + name);
  }
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(dir.get());  // NOLINT(concurrency-mt-unsafe): a stream of our own
    if (entry == nullptr) {
      if (errno != 0) return fail_errno(errno, "list " + name);
      return {};
    }
    const std::string child = entry->d_name;
    if (child == "." || child == "..") continue;
    if (entry->d_type != DT_DIR && ::unlinkat(dir_fd, child.c_str(), 0) == 0) continue;
    auto sub = open_at(dir_fd, child, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!sub) {
      if (sub.error().errno_value() == ENOENT) continue;
      if (::unlinkat(dir_fd, child.c_str(), 0) == 0 || errno == ENOENT) continue;
      return fail_errno(errno, "remove " + name + "/" + child);
    }
    struct stat info{};
    if (::fstat(sub->get(), &info) != 0) return fail_errno(errno, "stat " + name + "/" + child);
    if (one_filesystem && info.st_dev != device) {
      return fail(Code::kPrecondition, name + "/" + child + " is a mount point", EXDEV);
    }
    BERTH_TRY(remove_children(std::move(*sub), name + "/" + child, device, one_filesystem, depth + 1), "remove");
    if (::unlinkat(dir_fd, child.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
      return fail_errno(errno, "remove " + name + "/" + child);
    }
  }
}

}  // namespace

Result<> remove_tree(const std::string& path, bool one_filesystem) {
  auto fd = open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!fd) {
    if (fd.error().errno_value() == ENOENT) return {};
    return remove_file(path);
  }
  struct stat info{};
  if (::fstat(fd->get(), &info) != 0) return fail_errno(errno, "stat " + path);
  BERTH_TRY(remove_children(std::move(*fd), path, info.st_dev, one_filesystem, 0), "remove tree");
  if (::rmdir(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "remove folder " + path);
  return {};
}

Result<> remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "remove " + path);
  return {};
}

Result<std::vector<std::string>> list_dir(const std::string& path) {
  const UniqueDir dir(::opendir(path.c_str()));
  if (!dir) return fail_errno(errno, "list " + path);
  std::vector<std::string> names;
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(dir.get());  // NOLINT(concurrency-mt-unsafe): a stream of our own
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return fail_errno(errno, "list " + path);
  std::sort(names.begin(), names.end());
  return names;
}

bool exists(const std::string& path) {
  return ::faccessat(AT_FDCWD, path.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

Result<> fsync_path(const std::string& path) {
  auto fd = open_file(path, O_RDONLY);
  if (!fd) return fail(std::move(fd).error());
  if (::fsync(fd->get()) != 0) return fail_errno(errno, "fsync " + path);
  return {};
}

Result<Pipe> make_pipe(int flags) {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC | flags) != 0) return fail_errno(errno, "pipe2");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Result<UniqueFd> dup_fd(int fd) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return fail_errno(errno, "dup");
  return UniqueFd(copy);
}

}  // namespace berth::os
