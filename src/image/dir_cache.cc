#include "image/dir_cache.h"

#include <fcntl.h>
#include <linux/openat2.h>

#include <cerrno>

#include "os/file.h"

namespace berth::image {
namespace {

bool is_below(const std::string& path, const std::string& top) {
  return path.size() > top.size() && path.starts_with(top) && path[top.size()] == '/';
}

}  // namespace

Result<int> DirCache::open(const std::string& path) {
  if (path.empty()) return root_fd_;
  if (by_link_.fd && by_link_.path == path) return by_link_.fd.get();
  while (!levels_.empty() && levels_.back().path != path && !is_below(path, levels_.back().path)) levels_.pop_back();
  while (levels_.empty() || levels_.back().path != path) {
    const std::size_t begin = levels_.empty() ? 0 : levels_.back().path.size() + 1;
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const int above = levels_.empty() ? root_fd_ : levels_.back().fd.get();
    const int fd =
        ::openat(above, path.substr(begin, end - begin).c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
      levels_.push_back({path.substr(0, end), UniqueFd(fd)});
      continue;
    }
    if (errno != ELOOP && errno != ENOTDIR) return fail_errno(errno, "open directory");
    auto linked = os::open_in(root_fd_, path, O_RDONLY | O_DIRECTORY, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
    if (!linked) {
      const int why = linked.error().errno_value();
      if (why == ENOTDIR || why == ELOOP) return fail(Code::kCorrupt, "a part of its path is no directory", why);
      return fail(std::move(linked).error());
    }
    by_link_ = {path, std::move(*linked)};
    return by_link_.fd.get();
  }
  return levels_.back().fd.get();
}

void DirCache::forget(const std::string& path) {
  while (!levels_.empty() && (levels_.back().path == path || is_below(levels_.back().path, path))) levels_.pop_back();
  by_link_ = {};
}

}  // namespace berth::image
