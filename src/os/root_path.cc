#include "os/root_path.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <array>
#include <climits>

#include "os/file.h"

namespace berth::os {

namespace {

constexpr std::uint64_t kInRoot = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
constexpr int kMaxLinks = 40;  // as the kernel's own limit (MAXSYMLINKS)
constexpr ino_t kProcRootInode = 1;

/// What stands behind the dangling symlink `name` in `parent`, as a path of the root; nothing if it is no symlink.
Result<std::string> read_link(int parent_fd, const std::string& name) {
  std::array<char, PATH_MAX> target;
  const ssize_t n = ::readlinkat(parent_fd, name.c_str(), target.data(), target.size());
  if (n < 0) return fail_errno(errno, "readlink " + name);
  if (static_cast<std::size_t>(n) == target.size()) return fail(Code::kInvalid, "the link " + name + " is too long");
  return std::string(target.data(), static_cast<std::size_t>(n));
}

/// Makes the last component of `path`, whose parent exists; follows a dangling symlink by returning its target's path.
Result<std::string> make_component(int root_fd, const std::string& path, mode_t mode) {
  std::string parent;
  std::string name;
  split_parent(path, parent, name);
  if (name.empty() || name == "." || name == "..") return std::string();
  BERTH_ASSIGN(const UniqueFd parent_fd, open_in_root(root_fd, parent, O_DIRECTORY), "open the folder above " + path);
  if (::mkdirat(parent_fd.get(), name.c_str(), mode) == 0) return std::string();
  const int e = errno;
  if (e != EEXIST) return fail_errno(e, "mkdir " + path);
  const auto target = read_link(parent_fd.get(), name);
  if (!target) return fail(target.error().in("make " + path));
  return *target->c_str() == '/' ? *target : parent + "/" + *target;
}

Result<UniqueFd> make_dir_walk(int root_fd, const std::string& path, mode_t mode, int links) {
  if (links > kMaxLinks) return fail(Code::kInvalid, "too many symbolic links at " + path, ELOOP);
  std::string prefix;
  std::size_t at = 0;
  while (at < path.size()) {
    const std::size_t slash = std::min(path.find('/', at), path.size());
    if (slash > at) {
      prefix.append("/").append(path, at, slash - at);
      const auto there = open_in_root(root_fd, prefix, O_DIRECTORY);
      if (!there) {
        if (there.error().errno_value() != ENOENT) return fail(there.error());
        BERTH_ASSIGN(const std::string link, make_component(root_fd, prefix, mode), "create the mount target");
        if (!link.empty()) {
          BERTH_TRY(make_dir_walk(root_fd, link, mode, links + 1), "follow the link " + prefix);
        }
      }
    }
    at = slash + 1;
  }
  return open_in_root(root_fd, path, O_DIRECTORY);
}

Result<UniqueFd> make_file_walk(int root_fd, const std::string& path, mode_t mode, int links) {
  if (links > kMaxLinks) return fail(Code::kInvalid, "too many symbolic links at " + path, ELOOP);
  auto there = open_in_root(root_fd, path);
  if (there || there.error().errno_value() != ENOENT) return there;
  std::string parent;
  std::string name;
  split_parent(path, parent, name);
  if (name.empty() || name == "..") return fail(Code::kInvalid, "no file can be made at \"" + path + "\"");
  BERTH_ASSIGN(const UniqueFd parent_fd, make_dir_in_root(root_fd, parent, 0755), "make the folder of " + path);
  const int fd = ::openat(parent_fd.get(), name.c_str(), O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, mode);
  if (fd >= 0) {
    UniqueFd made(fd);
    const int path_fd = ::openat(parent_fd.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (path_fd < 0) return fail_errno(errno, "open " + path);
    return UniqueFd(path_fd);
  }
  const int e = errno;
  if (e != EEXIST) return fail_errno(e, "create " + path);
  const auto target = read_link(parent_fd.get(), name);
  if (!target) return fail(target.error().in("create " + path));
  return make_file_walk(root_fd, *target->c_str() == '/' ? *target : parent + "/" + *target, mode, links + 1);
}

}  // namespace

void split_parent(const std::string& path, std::string& parent, std::string& name) {
  std::size_t end = path.size();
  while (end > 0 && path[end - 1] == '/') --end;
  const std::size_t slash = end == 0 ? std::string::npos : path.rfind('/', end - 1);
  if (slash == std::string::npos) {
    parent.clear();
    name = path.substr(0, end);
  } else {
    parent = path.substr(0, slash);
    name = path.substr(slash + 1, end - slash - 1);
  }
}

Result<UniqueFd> open_in_root(int root_fd, const std::string& path, int extra_flags) {
  return open_in(root_fd, path.empty() ? "/" : path, O_PATH | extra_flags, kInRoot);
}

Result<UniqueFd> open_file_in_root(int root_fd, const std::string& path, int flags) {
  return open_in(root_fd, path.empty() ? "/" : path, flags, kInRoot);
}

Result<UniqueFd> make_dir_in_root(int root_fd, const std::string& path, mode_t mode, bool* existed) {
  auto there = open_in_root(root_fd, path, O_DIRECTORY);
  if (existed != nullptr) *existed = there.has_value();
  if (there || there.error().errno_value() != ENOENT) return there;
  // Mostly the last component alone is missing; else, or where it is a link to nowhere, one after the other.
  const auto made = make_component(root_fd, path, mode);
  if (made && made->empty()) return open_in_root(root_fd, path, O_DIRECTORY);
  return make_dir_walk(root_fd, path, mode, 0);
}

Result<UniqueFd> make_file_in_root(int root_fd, const std::string& path, mode_t mode) {
  return make_file_walk(root_fd, path, mode, 0);
}

Result<UniqueFd> open_verified_proc() {
  BERTH_ASSIGN(UniqueFd fd, open_file("/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW), "open procfs");
  struct statfs fs{};
  struct stat st{};
  if (::fstatfs(fd.get(), &fs) != 0 || ::fstat(fd.get(), &st) != 0) return fail_errno(errno, "stat /proc");
  if (fs.f_type != PROC_SUPER_MAGIC || st.st_ino != kProcRootInode) {
    return fail(Code::kPrecondition, "/proc is not the root of a procfs");
  }
  return fd;
}

Result<> write_proc(int proc_fd, const std::string& path, std::string_view data) {
  BERTH_ASSIGN(const UniqueFd fd,
               open_in(proc_fd, path, O_WRONLY, RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS), "procfs");
  if (::write(fd.get(), data.data(), data.size()) < 0) return fail_errno(errno, "write /proc/" + path);
  return {};
}

}  // namespace berth::os
