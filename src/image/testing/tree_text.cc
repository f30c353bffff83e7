#include "image/testing/tree_text.h"

#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <sstream>

#include "image/digest.h"
#include "os/file.h"

namespace berth::image::testing {
namespace {

std::string attributes(const std::string& path) {
  std::string names(65536, '\0');
  const ssize_t size = ::llistxattr(path.c_str(), names.data(), names.size());
  if (size <= 0) return {};
  std::set<std::string> found;
  for (std::size_t at = 0; at < static_cast<std::size_t>(size); at += names.find('\0', at) + 1 - at) {
    const std::string name = names.c_str() + at;
    std::string value(65536, '\0');
    const ssize_t bytes = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    // What overlayfs keeps for itself is not a container's business.
    if (bytes < 0 || name.starts_with("trusted.overlay.") || name == "security.selinux") continue;
    value.resize(static_cast<std::size_t>(bytes));
    found.insert(name + "=" + sha256_of(value).value_or("?"));
  }
  std::string out;
  for (const auto& text : found) out += " " + text;
  return out;
}

std::string content(const std::string& path) {
  const auto text = os::read_file(path, 1ULL << 30);
  return text ? sha256_of(*text).value_or("?") : text.error().text();
}

std::string describe(const std::string& path, const struct stat& st) {
  std::ostringstream out;
  out << std::oct << st.st_mode << std::dec << " " << st.st_uid << ":" << st.st_gid << " " << st.st_mtim.tv_sec << "."
      << st.st_mtim.tv_nsec;
  if (!S_ISDIR(st.st_mode)) out << " " << st.st_size;
  if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) out << " device " << st.st_rdev;
  if (S_ISLNK(st.st_mode)) {
    std::string target(8192, '\0');
    const ssize_t size = ::readlink(path.c_str(), target.data(), target.size());
    out << " -> " << target.substr(0, size < 0 ? 0 : static_cast<std::size_t>(size));
  }
  if (S_ISREG(st.st_mode)) out << " " << content(path);
  out << attributes(path);
  return out.str();
}

}  // namespace

std::map<std::string, std::string> describe_tree(const std::string& root) {
  std::map<std::string, std::string> out;
  std::map<std::pair<dev_t, ino_t>, std::string> first_names;
  std::set<std::string> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) paths.insert(entry.path().string());
  for (const auto& path : paths) {
    struct stat st{};
    const std::string name = path.substr(root.size());
    // overlayfs lists a whiteout that hides nothing, and then says it is not there.
    if (::lstat(path.c_str(), &st) != 0) continue;
    out[name] = describe(path, st);
    if (S_ISDIR(st.st_mode) || st.st_nlink < 2) continue;
    const auto [first, is_new] = first_names.emplace(std::pair(st.st_dev, st.st_ino), name);
    if (!is_new) out[name] += " is " + first->second;
  }
  return out;
}

}  // namespace berth::image::testing
