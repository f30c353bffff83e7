#include "image/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <utility>

#include "base/ids.h"
#include "base/unique_fd.h"
#include "os/file.h"

namespace berth::image {
namespace {

constexpr unsigned kHoistDepth = 256;
constexpr unsigned kMaxHoists = 100'000;

struct DirCloser {
  void operator()(DIR* dir) const { ::closedir(dir); }
};
using UniqueDir = std::unique_ptr<DIR, DirCloser>;

UniqueDir list_of(int dir_fd) {
  const int copy = ::openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return nullptr;
  UniqueDir dir(::fdopendir(copy));
  if (!dir) ::close(copy);
  return dir;
}

bool is_dot(const char* name) {
  return std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0;
}

/// Goes down the first folder of each folder, kHoistDepth levels, and moves what lies there to `spare`. False: not so
/// deep.
Result<bool> hoist(const std::string& path, const std::string& spare) {
  BERTH_ASSIGN(UniqueFd at, os::open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), "look into a deep tree");
  // Follows the deepest chain that the first folders give; emptied side branches make the next round find another.
  for (unsigned depth = 0; depth < kHoistDepth; ++depth) {
    const UniqueDir dir = list_of(at.get());
    if (!dir) return fail_errno(errno, "list a deep tree");
    std::string name;
    while (const dirent* entry = ::readdir(dir.get())) {  // NOLINT(concurrency-mt-unsafe): a stream of our own
      if (is_dot(entry->d_name)) continue;
      struct stat st{};
      if (::fstatat(at.get(), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
      if (S_ISDIR(st.st_mode)) {
        name = entry->d_name;
        break;
      }
    }
    if (name.empty()) return false;
    auto next = os::open_at(at.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!next) return fail(std::move(next).error());
    if (depth + 1 == kHoistDepth) {
      if (::renameat(at.get(), name.c_str(), AT_FDCWD, spare.c_str()) != 0)
        return fail_errno(errno, "move a deep tree up");
      return true;
    }
    at = std::move(*next);
  }
  return false;
}

struct Walk {
  TreeUsage usage;
  std::set<std::pair<dev_t, ino_t>> linked;
  dev_t device = 0;

  void count(const struct stat& st) {
    if (!S_ISDIR(st.st_mode) && st.st_nlink > 1 && !linked.emplace(st.st_dev, st.st_ino).second) return;
    usage.bytes += static_cast<std::uint64_t>(st.st_blocks) * 512;
    ++usage.inodes;
  }
  void folder(int fd, unsigned depth) {
    const UniqueDir dir = list_of(fd);
    if (!dir) return;
    while (const dirent* entry = ::readdir(dir.get())) {  // NOLINT(concurrency-mt-unsafe): a stream of our own
      if (is_dot(entry->d_name)) continue;
      struct stat st{};
      if (::fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || st.st_dev != device) continue;
      count(st);
      if (!S_ISDIR(st.st_mode) || depth >= kHoistDepth) continue;
      const UniqueFd below(::openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (below) folder(below.get(), depth + 1);
    }
  }
};

}  // namespace

Result<> remove_any_tree(const std::string& path, const std::string& spare_dir) {
  auto removed = os::remove_tree(path);
  for (unsigned count = 0; !removed && removed.error().code() == Code::kExhausted && count < kMaxHoists; ++count) {
    const std::string spare = spare_dir + "/deep-" + random_hex(8);
    BERTH_ASSIGN(const bool moved, hoist(path, spare), "remove " + path);
    if (!moved) return removed;
    BERTH_TRY(remove_any_tree(spare, spare_dir), "remove " + path);
    removed = os::remove_tree(path);
  }
  return removed;
}

Result<TreeUsage> tree_usage(const std::string& path) {
  BERTH_ASSIGN(const UniqueFd root, os::open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), "measure");
  struct stat st{};
  if (::fstat(root.get(), &st) != 0) return fail_errno(errno, "stat " + path);
  Walk walk;
  walk.device = st.st_dev;
  walk.count(st);
  walk.folder(root.get(), 0);
  return walk.usage;
}

}  // namespace berth::image
