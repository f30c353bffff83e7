#include "image/implied_dirs.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include <cerrno>
#include <optional>

#include "image/printable.h"
#include "os/file.h"

namespace berth::image {
namespace {

/// What the nearest lower layer that has `path` holds there; nothing when none has it.
Result<std::optional<struct stat>> look_below(const std::string& path, const std::vector<UniqueFd>& lower) {
  for (const UniqueFd& root : lower) {
    auto found = os::open_in(root.get(), path, O_PATH | O_NOFOLLOW, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
    if (!found) {
      const int why = found.error().errno_value();
      if (why == ENOENT || why == ENOTDIR) continue;
      if (why != ELOOP) return fail(std::move(found).error());
    }
    struct stat st{};
    if (found && ::fstat(found->get(), &st) != 0) return fail_errno(errno, "stat");
    if (!found || S_ISLNK(st.st_mode)) {
      return fail(Code::kUnsupported,
                  "the layer puts files below \"" + printable(path) + "\", which is a link in a lower layer");
    }
    if (!S_ISDIR(st.st_mode)) return std::optional<struct stat>();
    return std::optional(st);
  }
  return std::optional<struct stat>();
}

}  // namespace

Result<> adopt_lower_attributes(const std::string& tree, const std::vector<std::string>& implied,
                                const std::vector<std::string>& lower, bool change) {
  if (implied.empty() || lower.empty()) return {};
  std::vector<UniqueFd> roots;
  for (const std::string& path : lower) {
    BERTH_ASSIGN(UniqueFd root, os::open_file(path, O_PATH | O_DIRECTORY), "lower layer");
    roots.push_back(std::move(root));
  }
  BERTH_ASSIGN(const UniqueFd own, os::open_file(tree, O_PATH | O_DIRECTORY), "layer");
  for (const std::string& path : implied) {
    BERTH_ASSIGN(const std::optional<struct stat> below, look_below(path, roots), "directory");
    if (!below || !change) continue;
    auto dir = os::open_in(own.get(), path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
    if (!dir) return fail(std::move(dir).error());
    struct stat now{};
    if (::fstat(dir->get(), &now) != 0) return fail_errno(errno, "stat " + printable(path));
    const bool as_made = (now.st_mode & 07777) == 0755 && now.st_uid == 0 && now.st_gid == 0;
    if (!as_made) continue;  // another image's layers have settled it
    const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, below->st_mtim};
    if (::fchown(dir->get(), below->st_uid, below->st_gid) != 0)
      return fail_errno(errno, "set owner of " + printable(path));
    if (::fchmod(dir->get(), below->st_mode & 07777) != 0) return fail_errno(errno, "set mode of " + printable(path));
    if (::futimens(dir->get(), times) != 0) return fail_errno(errno, "set time of " + printable(path));
  }
  return {};
}

}  // namespace berth::image
