#include "image/dir_cache.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

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

Result<std::string> DirCache::real_path(const std::string& path) const {
  if (!by_link_.fd || by_link_.path != path) return path;
  const auto name = [](int fd) -> Result<std::string> {
    std::string text(PATH_MAX, '\0');
    const ssize_t size = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), text.data(), text.size());
    if (size < 0) return fail_errno(errno, "look where a link leads");
    text.resize(static_cast<std::size_t>(size));
    return text;
  };
  BERTH_ASSIGN(const std::string root, name(root_fd_), "directory");
  BERTH_ASSIGN(const std::string here, name(by_link_.fd.get()), "directory");
  if (here == root) return std::string();
  if (!here.starts_with(root + "/")) return fail(Code::kCorrupt, "a link on its path leads nowhere");
  return here.substr(root.size() + 1);
}

void DirCache::forget(const std::string& path) {
  while (!levels_.empty() && (levels_.back().path == path || is_below(levels_.back().path, path))) levels_.pop_back();
  by_link_ = {};
}

}  // namespace berth::image
