#include "os/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>

#include "base/strings.h"
#include "os/file.h"

namespace berth::os {

namespace {

constexpr std::size_t kProcCgroupLimit = 64 << 10;
constexpr mode_t kCgroupMode = 0755;
constexpr int kMaxDepth = 64;
constexpr std::size_t kNamesBytes = 4096;

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};
using Dir = std::unique_ptr<DIR, CloseDir>;

Result<long> filesystem_type(int fd) {
  struct statfs fs{};
  if (::fstatfs(fd, &fs) != 0) return fail_errno(errno, "statfs");
  return static_cast<long>(fs.f_type);
}

/// Path for the *at calls: relative, "." for the root itself.
std::string relative(const std::string& path) {
  const std::size_t start = path.find_first_not_of('/');
  return start == std::string::npos ? "." : path.substr(start);
}

Result<Dir> open_dir(int dir_fd, const std::string& path) {
  BERTH_ASSIGN(UniqueFd fd, open_at(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), "list cgroups");
  Dir dir(::fdopendir(fd.get()));
  if (!dir) return fail_errno(errno, "fdopendir");
  [[maybe_unused]] const int owned = fd.release();  // the stream closes it
  return dir;
}

/// Adds the folder of that name if a hierarchy is mounted there.
void add_hierarchy(int root_fd, const std::string& name, CgroupLayout& layout) {
  auto fd = open_at(root_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (!fd) return;
  const auto fs = filesystem_type(fd->get());
  if (fs && *fs == CGROUP2_SUPER_MAGIC && name == "unified") layout.unified = std::move(*fd);
  if (!fs || *fs != CGROUP_SUPER_MAGIC) return;
  CgroupHierarchy hierarchy{name, {}, std::move(*fd)};
  for (const auto part : split(name, ',')) {
    hierarchy.controllers.emplace_back(
        part == "systemd" || part == "openrc" || part == "elogind" ? "name=" + std::string(part) : std::string(part));
  }
  layout.hierarchies.push_back(std::move(hierarchy));
}

Result<> remove_below(int dir_fd, const std::string& path, int depth) {
  if (depth > kMaxDepth) return fail(Code::kExhausted, "cgroups are nested too deep");
  if (::unlinkat(dir_fd, path.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return {};
  const int e = errno;
  if (e != EBUSY && e != ENOTEMPTY) return fail_errno(e, "rmdir cgroup " + path);
  BERTH_ASSIGN(const auto children, child_cgroups(dir_fd, path), "remove cgroup");
  for (const auto& child : children) BERTH_TRY(remove_below(dir_fd, path + "/" + child, depth + 1), "remove cgroup");
  if (::unlinkat(dir_fd, path.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return {};
  if (errno == EBUSY) return fail(Code::kPrecondition, "cgroup " + path + " is busy", EBUSY);
  return fail_errno(errno, "rmdir cgroup " + path);
}

}  // namespace

const CgroupHierarchy* CgroupLayout::find(std::string_view controller) const {
  if (v2) return hierarchies.empty() ? nullptr : &hierarchies.front();
  for (const auto& hierarchy : hierarchies) {
    if (std::ranges::find(hierarchy.controllers, controller) != hierarchy.controllers.end()) return &hierarchy;
  }
  return nullptr;
}

Result<CgroupLayout> find_cgroups(const std::string& cgroup_root) {
  CgroupLayout layout;
  layout.root = cgroup_root;
  auto root = open_file(cgroup_root, O_RDONLY | O_DIRECTORY);
  if (!root) {
    if (root.error().code() == Code::kNotFound) return layout;
    return fail(std::move(root).error().in("cgroup root"));
  }
  BERTH_ASSIGN(const long type, filesystem_type(root->get()), "cgroup root");
  if (type == CGROUP2_SUPER_MAGIC) {
    layout.v2 = true;
    layout.hierarchies.push_back({"", {}, std::move(*root)});
    return layout;
  }
  // Without a stream, whose buffer of 32 KiB is much for a dozen names: every start of a container comes here.
  alignas(dirent64) std::array<char, kNamesBytes> names;
  while (true) {
    const ssize_t n = ::getdents64(root->get(), names.data(), names.size());
    if (n < 0) return fail_errno(errno, "list the cgroup root");
    if (n == 0) break;
    for (ssize_t at = 0; at < n;) {
      const auto* const entry = reinterpret_cast<const dirent64*>(names.data() + at);
      at += entry->d_reclen;
      // Links (cpu to cpu,cpuacct) name what is met under its own name.
      if (entry->d_name[0] != '.' && entry->d_type == DT_DIR) add_hierarchy(root->get(), entry->d_name, layout);
    }
  }
  std::ranges::sort(layout.hierarchies, {}, &CgroupHierarchy::name);
  return layout;
}

Result<std::vector<std::string>> own_cgroups(const CgroupLayout& layout) {
  BERTH_ASSIGN(const std::string text, read_file("/proc/self/cgroup", kProcCgroupLimit), "own cgroup");
  std::vector<std::string> paths(layout.hierarchies.size(), "/");
  for (const auto line : split(text, '\n')) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    std::string path(line.substr(second + 1));
    if (layout.v2 && !layout.hierarchies.empty()) {
      if (controllers.empty()) paths[0] = std::move(path);
      continue;
    }
    if (controllers.empty()) continue;
    const auto* const found = layout.find(split(controllers, ',').front());
    if (found != nullptr) paths[static_cast<std::size_t>(found - layout.hierarchies.data())] = std::move(path);
  }
  return paths;
}

Result<bool> make_cgroup(int root_fd, const std::string& path) {
  const std::string whole = relative(path);
  if (whole == ".") return false;
  if (::mkdirat(root_fd, whole.c_str(), kCgroupMode) == 0) return true;
  if (errno == EEXIST) return false;
  if (errno != ENOENT) return fail_errno(errno, "mkdir cgroup " + path);
  for (std::size_t slash = whole.find('/'); slash != std::string::npos; slash = whole.find('/', slash + 1)) {
    if (::mkdirat(root_fd, whole.substr(0, slash).c_str(), kCgroupMode) != 0 && errno != EEXIST) {
      return fail_errno(errno, "mkdir cgroup " + whole.substr(0, slash));
    }
  }
  if (::mkdirat(root_fd, whole.c_str(), kCgroupMode) == 0) return true;
  if (errno == EEXIST) return false;
  return fail_errno(errno, "mkdir cgroup " + path);
}

Result<> remove_cgroup(int root_fd, const std::string& path) {
  const std::string whole = relative(path);
  if (whole == ".") return fail(Code::kInvalid, "the root cgroup cannot be removed");
  return remove_below(root_fd, whole, 0);
}

Result<std::vector<std::string>> child_cgroups(int root_fd, const std::string& path) {
  std::vector<std::string> names;
  auto dir = open_dir(root_fd, relative(path));
  if (!dir) {
    if (dir.error().code() == Code::kNotFound) return names;
    return fail(std::move(dir).error());
  }
  errno = 0;
  while (const dirent* entry = ::readdir(dir->get())) {  // NOLINT(concurrency-mt-unsafe): an own stream
    if (entry->d_type == DT_DIR && entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    errno = 0;
  }
  // The folder may go while it is read: then it has none.
  if (errno != 0 && errno != ENOENT && errno != ENODEV) return fail_errno(errno, "list cgroup " + path);
  return names;
}

}  // namespace berth::os
