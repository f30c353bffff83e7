#include "os/mount.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <utility>

namespace berth::os {

namespace {

/// What the kernel logged in the context: lines like "e tmpfs: Bad value for 'size'", without their class letter.
std::string context_messages(int context_fd) {
  std::string all;
  std::array<char, 512> line;
  for (int i = 0; i < 16; ++i) {
    const ssize_t n = ::read(context_fd, line.data(), line.size());
    if (n <= 0) break;
    std::string_view text(line.data(), static_cast<std::size_t>(n));
    while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    if (text.size() > 2 && text[1] == ' ') text.remove_prefix(2);
    all.append(" (").append(text).append(")");
  }
  return all;
}

std::unexpected<Error> context_error(int errno_value, int context_fd, const std::string& what) {
  return fail_errno(errno_value, what + context_messages(context_fd));
}

}  // namespace

std::string mount_attr_text(std::uint64_t attributes) {
  static constexpr std::array<std::pair<std::uint64_t, const char*>, 9> kNames{{
      {MOUNT_ATTR_RDONLY, "ro"},
      {MOUNT_ATTR_NOSUID, "nosuid"},
      {MOUNT_ATTR_NODEV, "nodev"},
      {MOUNT_ATTR_NOEXEC, "noexec"},
      {MOUNT_ATTR_NOATIME, "noatime"},
      {MOUNT_ATTR_STRICTATIME, "strictatime"},
      {MOUNT_ATTR_NODIRATIME, "nodiratime"},
      {MOUNT_ATTR_IDMAP, "idmap"},
      {MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"},
  }};
  std::string text;
  for (const auto& [bit, name] : kNames) {
    if ((attributes & bit) == 0) continue;
    if (!text.empty()) text.push_back(',');
    text.append(name);
  }
  return text;
}

Result<UniqueFd> fs_open(const std::string& type) {
  const int fd = ::fsopen(type.c_str(), FSOPEN_CLOEXEC);
  if (fd < 0) {
    const int e = errno;
    if (e == ENODEV) return fail(Code::kUnsupported, "the kernel has no file system \"" + type + "\"", e);
    return fail_errno(e, "fsopen " + type);
  }
  return UniqueFd(fd);
}

Result<> fs_set(int context_fd, const std::string& key, const char* value) {
  const unsigned command = value == nullptr ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
  if (::fsconfig(context_fd, command, key.c_str(), value, 0) != 0) {
    const int e = errno;
    return context_error(e, context_fd, "mount option " + key + (value == nullptr ? "" : std::string("=") + value));
  }
  return {};
}

Result<UniqueFd> fs_mount(int context_fd, std::uint64_t attributes) {
  if (::fsconfig(context_fd, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    const int e = errno;
    return context_error(e, context_fd, "create the file system");
  }
  const int fd = ::fsmount(context_fd, FSMOUNT_CLOEXEC, static_cast<unsigned>(attributes));
  if (fd < 0) {
    const int e = errno;
    return context_error(e, context_fd, "fsmount " + mount_attr_text(attributes));
  }
  return UniqueFd(fd);
}

Result<UniqueFd> clone_tree(int dir_fd, const std::string& path, bool recursive) {
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  if (recursive) flags |= AT_RECURSIVE;
  if (path.empty()) flags |= AT_EMPTY_PATH;
  const int fd = ::open_tree(dir_fd, path.c_str(), flags);
  if (fd < 0) {
    const int e = errno;
    return fail_errno(e,
                      "open_tree " + (path.empty() ? std::string("(fd)") : path) + (recursive ? " (recursive)" : ""));
  }
  return UniqueFd(fd);
}

Result<> attach_tree(int tree_fd, int target_fd) {
  if (::move_mount(tree_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    const int e = errno;
    return fail_errno(e, "move_mount");
  }
  return {};
}

Result<> attach_tree_at(int tree_fd, const std::string& target) {
  if (::move_mount(tree_fd, "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    const int e = errno;
    return fail_errno(e, "move_mount to " + target);
  }
  return {};
}

namespace {
Result<> set_attributes(int fd, const char* path, unsigned flags, const MountChange& change) {
  mount_attr attr{};
  attr.attr_set = change.set;
  attr.attr_clr = change.clear;
  attr.propagation = change.propagation;
  if (change.user_ns_fd >= 0) attr.userns_fd = static_cast<std::uint64_t>(change.user_ns_fd);
  if (::mount_setattr(fd, path, flags, &attr, sizeof attr) != 0) {
    const int e = errno;
    std::string what = "mount_setattr";
    if (*path != '\0') what.append(" ").append(path);
    if (change.set != 0) what.append(" set ").append(mount_attr_text(change.set));
    if (change.clear != 0) what.append(" clear ").append(mount_attr_text(change.clear));
    if (change.propagation != 0) what.append(" propagation ").append(std::to_string(change.propagation));
    return fail_errno(e, what);
  }
  return {};
}
}  // namespace

Result<> change_mount(int mount_fd, const MountChange& change, bool recursive) {
  return set_attributes(mount_fd, "", AT_EMPTY_PATH | (recursive ? static_cast<unsigned>(AT_RECURSIVE) : 0U), change);
}

Result<> change_mount_at(const std::string& path, const MountChange& change, bool recursive) {
  return set_attributes(AT_FDCWD, path.c_str(), recursive ? static_cast<unsigned>(AT_RECURSIVE) : 0U, change);
}

Result<> detach_mount(const std::string& path) {
  if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
    const int e = errno;
    return fail_errno(e, "umount " + path);
  }
  return {};
}

Result<> pivot_into(int root_fd) {
  if (::fchdir(root_fd) != 0) return fail_errno(errno, "fchdir to the new root");
  if (::syscall(SYS_pivot_root, ".", ".") != 0) return fail_errno(errno, "pivot_root");
  // The old root now lies on top of the new one at "/": what "." names is the old one, and it goes with all its mounts.
  if (::umount2(".", MNT_DETACH) != 0) return fail_errno(errno, "umount the old root");
  if (::chdir("/") != 0) return fail_errno(errno, "chdir to the new root");
  return {};
}

Result<> chroot_into(int root_fd) {
  if (::fchdir(root_fd) != 0) return fail_errno(errno, "fchdir to the new root");
  if (::chroot(".") != 0) return fail_errno(errno, "chroot");
  if (::chdir("/") != 0) return fail_errno(errno, "chdir to the new root");
  return {};
}

}  // namespace berth::os
