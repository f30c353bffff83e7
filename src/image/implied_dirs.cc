#include "image/implied_dirs.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cerrno>
#include <optional>

#include "base/strings.h"
#include "image/printable.h"
#include "os/file.h"

namespace berth::image {
namespace {

/// What one layer holds at a path.
struct Place {
  std::optional<struct stat> folder;
  bool link = false;
  bool hides = false;   ///< what still lower layers have there
  bool opaque = false;  ///< the folder itself
};

/// Walks to `path` in the layer at `root`, where no link is followed.
Result<Place> look_into(int root, const std::string& path) {
  Place place;
  UniqueFd here;
  const auto parts = split(path, '/');
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const int above = i == 0 ? root : here.get();
    const std::string name(parts[i]);
    struct stat st{};
    if (::fstatat(above, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) return place;
      return fail_errno(errno, "look at " + printable(path));
    }
    if (!S_ISDIR(st.st_mode)) {  // a whiteout among them
      place.hides = true;
      place.link = S_ISLNK(st.st_mode) && i + 1 == parts.size();
      return place;
    }
    BERTH_ASSIGN(here, os::open_at(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), "layer");
    char mark = 0;
    const bool opaque = ::fgetxattr(here.get(), "trusted.overlay.opaque", &mark, 1) == 1 && mark == 'y';
    if (i + 1 < parts.size()) {
      place.hides |= opaque;
    } else {
      place.folder = st;
      place.opaque = opaque;
    }
  }
  return place;
}

/// The folder that `path` of the layer `own` is put over; nothing when there is none.
Result<std::optional<struct stat>> look_below(int own, const std::string& path, const std::vector<UniqueFd>& lower) {
  BERTH_ASSIGN(const Place above, look_into(own, path), "layer");
  if (above.hides) return std::optional<struct stat>();
  for (const UniqueFd& root : lower) {
    BERTH_ASSIGN(const Place place, look_into(root.get(), path), "lower layer");
    if (place.link && !above.opaque) {
      return fail(Code::kUnsupported,
                  "the layer puts files below \"" + printable(path) + "\", which is a link in a lower layer");
    }
    if (place.folder || place.hides) return place.folder;
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
    BERTH_ASSIGN(const std::optional<struct stat> below, look_below(own.get(), path, roots), "directory");
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
