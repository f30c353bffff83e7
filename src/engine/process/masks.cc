#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "engine/process/launch.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/root_path.h"

namespace berth::engine::process {

namespace {

constexpr std::uint64_t kMaskAttributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;

/// The mounts that hide things: one empty tmpfs for folders and one null device for files, copied for each place.
class Masks {
 public:
  Masks(int root_fd, std::span<const KernelMount> mounts, const std::string& label)
      : root_fd_(root_fd), mounts_(mounts), label_(label) {}

  Result<> mask(const std::string& path) {
    auto target = find(path);
    if (!target) return absent(target.error()) ? Result<>() : fail(std::move(target).error().in("mask " + path));
    struct stat st{};
    if (::fstat(target->get(), &st) != 0) return fail_errno(errno, "mask " + path);
    auto cover = S_ISDIR(st.st_mode) ? folder() : file();
    if (!cover) return fail(std::move(cover).error().in("mask " + path));
    auto done = os::attach_tree(cover->get(), target->get());
    // A process of a pid's folder that has gone meanwhile (masked /proc/PID paths) hides itself.
    if (!done && !absent(done.error())) return fail(std::move(done).error().in("mask " + path));
    return {};
  }

  Result<> make_read_only(const std::string& path) {
    auto target = find(path);
    if (!target) return absent(target.error()) ? Result<>() : fail(std::move(target).error().in("read-only " + path));
    BERTH_ASSIGN(const UniqueFd tree, os::clone_tree(target->get(), "", true), "read-only " + path);
    BERTH_TRY(os::change_mount(tree.get(), {MOUNT_ATTR_RDONLY, 0, 0, -1}, true), "read-only " + path);
    BERTH_TRY(os::attach_tree(tree.get(), target->get()), "read-only " + path);
    return {};
  }

 private:
  static bool absent(const Error& error) { return error.errno_value() == ENOENT || error.errno_value() == ENOTDIR; }

  /// In a procfs or sysfs of our own making from its own root: its name in the container's may lead elsewhere by now,
  /// where whoever can write there swapped it, and what is masked would be another file. Source: CVE-2019-19921.
  Result<UniqueFd> find(const std::string& path) {
    for (const auto& mount : mounts_) {
      const bool below = path == mount.target || path.starts_with(mount.target + "/");
      if (!below || path.find("..") != std::string::npos) continue;
      return os::open_in_root(mount.tree.get(), path.substr(mount.target.size()));
    }
    return os::open_in_root(root_fd_, path);
  }

  Result<UniqueFd> folder() {
    if (folder_.valid()) return os::clone_tree(folder_.get(), "", false);
    BERTH_ASSIGN(const UniqueFd context, os::fs_open("tmpfs"), "mask");
    BERTH_TRY(os::fs_set(context.get(), "nr_inodes", "1"), "mask");
    BERTH_TRY(os::fs_set(context.get(), "mode", "755"), "mask");
    if (!label_.empty()) BERTH_TRY(os::fs_set(context.get(), "context", label_.c_str()), "mask");
    BERTH_ASSIGN(UniqueFd first, os::fs_mount(context.get(), kMaskAttributes | MOUNT_ATTR_NODEV), "mask");
    folder_ = std::move(first);
    return os::dup_fd(folder_.get());
  }

  /// The null device must be one: an image that puts a link or file at /dev/null would else decide what lies over
  /// /proc/kcore. Source: CVE-2025-31133.
  Result<UniqueFd> file() {
    if (file_.valid()) return os::clone_tree(file_.get(), "", false);
    for (const bool own : {true, false}) {
      auto null = own ? os::open_in(root_fd_, "/dev/null", O_PATH | O_NOFOLLOW, kStraight)
                      : os::open_file("/dev/null", O_PATH | O_NOFOLLOW);
      struct stat st{};
      if (!null || ::fstat(null->get(), &st) != 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) continue;
      BERTH_ASSIGN(UniqueFd tree, os::clone_tree(null->get(), "", false), "mask");
      // Read-only: its mode and owner cannot be changed through the mask. Device nodes take writes all the same.
      BERTH_TRY(os::change_mount(tree.get(), {kMaskAttributes, 0, 0, -1}, false), "mask");
      file_ = std::move(tree);
      return os::dup_fd(file_.get());
    }
    return fail(Code::kInvalid, "there is no null device to mask files with");
  }

  static constexpr std::uint64_t kStraight = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS;

  int root_fd_;
  std::span<const KernelMount> mounts_;
  const std::string& label_;  ///< linux.mountLabel
  UniqueFd folder_;
  UniqueFd file_;
};

}  // namespace

Result<> mask_paths(const spec::Linux& config, int root_fd, std::span<const KernelMount> mounts) {
  Masks masks(root_fd, mounts, config.mount_label);
  for (const auto& path : config.readonly_paths) BERTH_TRY(masks.make_read_only(path), "linux.readonlyPaths");
  for (const auto& path : config.masked_paths) BERTH_TRY(masks.mask(path), "linux.maskedPaths");
  return {};
}

}  // namespace berth::engine::process
