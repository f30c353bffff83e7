#include "shim/tree_tar.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <memory>
#include <utility>

#include "base/strings.h"
#include "base/tar_header.h"
#include "base/unique_fd.h"
#include "os/file.h"

namespace berth::shim {
namespace {

// Each level holds a descriptor, as os::remove_tree() does, which has to remove what we write.
constexpr int kMaxDepth = 500;
constexpr std::size_t kBuffer = 256U << 10;
constexpr const char* kOpaque = "trusted.overlay.opaque";
constexpr std::size_t kMaxXattrs = 64U << 10;  // what the kernel gives at most

class TreeTar final {
 public:
  TreeTar(TreeKind kind, int out_fd, std::vector<std::string>* deleted)
      : kind_(kind), out_fd_(out_fd), deleted_(deleted), buffer_(kBuffer, '\0') {}

  Result<> run(int root_fd);

 private:
  Result<> folder(int fd, const std::string& path, int depth);
  Result<> entry(int dir_fd, const std::string& name, const std::string& path, int depth);
  Result<> file(int fd, TarMember member);
  Result<> hide(const std::string& path, const std::string& marker);
  Result<> put(const TarMember& member) { return os::write_all(out_fd_, tar_header(member)); }
  bool seen_before(const struct stat& st, TarMember& member);

  TreeKind kind_;
  int out_fd_;
  std::vector<std::string>* deleted_;
  std::string buffer_;
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;  ///< the first name of what has several
};

Result<std::vector<std::string>> names_in(int dir_fd, const std::string& path) {
  BERTH_ASSIGN(UniqueFd again, os::open_at(dir_fd, ".", O_RDONLY | O_DIRECTORY), path);
  DIR* const raw = ::fdopendir(again.get());
  if (raw == nullptr) return fail_errno(errno, "list " + path);
  [[maybe_unused]] const int owned = again.release();
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(raw, ::closedir);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* next = ::readdir(dir.get())) {  // NOLINT(concurrency-mt-unsafe): a stream of our own
    const std::string name = next->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  if (errno != 0) return fail_errno(errno, "list " + path);
  std::ranges::sort(names);
  return names;
}

bool kept(std::string_view name) {
  return name.starts_with("user.") || name == "security.capability" || name.starts_with("system.posix_acl_");
}

/// Of a file or folder that is open; file systems without attributes have none.
Result<std::vector<std::pair<std::string, std::string>>> xattrs_of(int fd, const std::string& path) {
  std::vector<std::pair<std::string, std::string>> found;
  std::string names(kMaxXattrs, '\0');
  const ssize_t size = ::flistxattr(fd, names.data(), names.size());
  if (size < 0 && errno == EOPNOTSUPP) return found;
  if (size < 0) return fail_errno(errno, "attributes of " + path);
  names.resize(static_cast<std::size_t>(size));
  for (const auto name : split(names, '\0')) {
    // Its content is of layers below, which an archive of this one has not.
    if (name == "trusted.overlay.metacopy" || name == "trusted.overlay.redirect") {
      return fail(Code::kUnsupported, path + ": overlayfs has only changes of it in this layer (" + std::string(name) +
                                          "); turn its options metacopy and redirect_dir off");
    }
    if (!kept(name)) continue;
    std::string value(kMaxXattrs, '\0');
    const std::string text(name);
    const ssize_t length = ::fgetxattr(fd, text.c_str(), value.data(), value.size());
    if (length < 0) return fail_errno(errno, "attribute " + text + " of " + path);
    value.resize(static_cast<std::size_t>(length));
    found.emplace_back(text, std::move(value));
  }
  return found;
}

bool is_opaque(int fd) {
  char value = 0;
  return ::fgetxattr(fd, kOpaque, &value, 1) == 1 && value == 'y';
}

TarMember member_of(const struct stat& st, const std::string& path) {
  TarMember member;
  member.path = path;
  member.mode = st.st_mode & 07777;
  member.uid = st.st_uid;
  member.gid = st.st_gid;
  member.mtime_s = st.st_mtim.tv_sec;
  member.mtime_ns = static_cast<std::uint32_t>(st.st_mtim.tv_nsec);
  return member;
}

Result<> TreeTar::hide(const std::string& path, const std::string& marker) {
  TarMember member;
  const auto slash = path.rfind('/');
  member.path = slash == std::string::npos ? marker : path.substr(0, slash + 1) + marker;
  member.mode = 0600;
  return put(member);
}

bool TreeTar::seen_before(const struct stat& st, TarMember& member) {
  if (st.st_nlink < 2 || S_ISDIR(st.st_mode)) return false;
  const auto [at, first] = linked_.emplace(std::pair(st.st_dev, st.st_ino), member.path);
  if (first) return false;
  member.type = '1';
  member.link = at->second;
  return true;
}

Result<> TreeTar::file(int fd, TarMember member) {
  BERTH_ASSIGN(member.xattrs, xattrs_of(fd, member.path), "read");
  BERTH_TRY(put(member), "write");
  std::uint64_t left = member.size;
  while (left > 0) {
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer_.size()));
    const ssize_t n = ::read(fd, buffer_.data(), wanted);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "read " + member.path);
    // It has become shorter: the size is written already.
    const std::size_t got = n == 0 ? wanted : static_cast<std::size_t>(n);
    if (n == 0) std::ranges::fill(buffer_, '\0');
    BERTH_TRY(os::write_all(out_fd_, std::string_view(buffer_).substr(0, got)), "write");
    left -= got;
  }
  return os::write_all(out_fd_, std::string(tar_padding(member.size), '\0'));
}

Result<> TreeTar::entry(int dir_fd, const std::string& name, const std::string& path, int depth) {
  struct stat st{};
  if (::fstatat(dir_fd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno(errno, "stat " + path);
  TarMember member = member_of(st, path);
  const bool character = S_ISCHR(st.st_mode);
  if (kind_ == TreeKind::kLayer && character && st.st_rdev == 0) {
    if (deleted_ != nullptr) deleted_->push_back("/" + path);
    return hide(path, ".wh." + name);
  }
  if (S_ISSOCK(st.st_mode)) return {};
  if (seen_before(st, member)) return put(member);
  if (S_ISDIR(st.st_mode)) {
    BERTH_ASSIGN(const UniqueFd fd, os::open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), path);
    return folder(fd.get(), path, depth + 1);
  }
  if (S_ISREG(st.st_mode)) {
    // Not to wait for a FIFO that took its place.
    BERTH_ASSIGN(const UniqueFd fd, os::open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK), path);
    member.size = static_cast<std::uint64_t>(st.st_size);
    return file(fd.get(), std::move(member));
  }
  if (S_ISLNK(st.st_mode)) {
    std::string target(PATH_MAX, '\0');
    const ssize_t n = ::readlinkat(dir_fd, name.c_str(), target.data(), target.size());
    if (n < 0) return fail_errno(errno, "readlink " + path);
    target.resize(static_cast<std::size_t>(n));
    member.type = '2';
    member.link = std::move(target);
  } else if (S_ISFIFO(st.st_mode)) {
    member.type = '6';
  } else {
    member.type = character ? '3' : '4';
    member.device_major = major(st.st_rdev);
    member.device_minor = minor(st.st_rdev);
  }
  return put(member);
}

Result<> TreeTar::folder(int fd, const std::string& path, int depth) {
  if (depth > kMaxDepth) return fail(Code::kExhausted, path + ": more than 500 folders deep");
  struct stat st{};
  if (::fstat(fd, &st) != 0) return fail_errno(errno, "stat " + path);
  TarMember member = member_of(st, path.empty() ? "./" : path + "/");
  member.type = '5';
  BERTH_ASSIGN(member.xattrs, xattrs_of(fd, path), "read");
  BERTH_TRY(put(member), "write");
  const std::string before = path.empty() ? "" : path + "/";
  if (kind_ == TreeKind::kLayer && is_opaque(fd)) BERTH_TRY(hide(before, ".wh..wh..opq"), "write");
  BERTH_ASSIGN(const auto names, names_in(fd, path), "read");
  for (const auto& name : names) {
    if (name.starts_with(".wh.")) {
      return fail(Code::kUnsupported,
                  before + name + ": in an archive of a layer such a name says that a file is deleted");
    }
    BERTH_TRY(entry(fd, name, before + name, depth), "write");
  }
  return {};
}

Result<> TreeTar::run(int root_fd) {
  BERTH_TRY(folder(root_fd, "", 0), "archive");
  return os::write_all(out_fd_, tar_end());
}

}  // namespace

Result<> write_tree_tar(int root_fd, TreeKind kind, int out_fd, std::vector<std::string>* deleted) {
  return TreeTar(kind, out_fd, deleted).run(root_fd);
}

}  // namespace berth::shim
