#include "rootless.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "base/strings.h"
#include "os/cgroup.h"
#include "os/file.h"

namespace berth::oci {

namespace {

/// Whether our root, if we are any, is that of a user namespace alone.
bool in_user_namespace() {
  constexpr std::size_t kMapLimit = 64U << 10;
  const auto map = os::read_file("/proc/self/uid_map", kMapLimit);
  if (!map) return false;
  std::vector<std::string_view> words;
  for (const auto line : split(*map, '\n')) {
    for (const auto word : split(line, ' ')) {
      if (!word.empty()) words.push_back(word);
    }
  }
  return words != std::vector<std::string_view>{"0", "0", "4294967295"};
}

/// The nearest folder above `path` that is there decides who may make what is missing.
bool may_make_below(int root_fd, std::string path) {
  while (true) {
    const std::string relative = path.size() <= 1 ? std::string(".") : path.substr(1);
    if (::faccessat(root_fd, relative.c_str(), W_OK, AT_EACCESS) == 0) return true;
    if (errno != ENOENT || path.size() <= 1) return false;
    path.resize(path.rfind('/'));
  }
}

/// The path in one hierarchy: one for all, or "name:/path" lines.
std::string path_in(const std::string& saved_path, const std::string& hierarchy) {
  if (saved_path.starts_with('/')) return saved_path;
  for (const auto line : split(saved_path, '\n')) {
    const std::size_t colon = line.rfind(":/");
    if (colon != std::string_view::npos && line.substr(0, colon) == hierarchy)
      return std::string(line.substr(colon + 1));
  }
  return {};
}

}  // namespace

bool machine_root() {
  return ::geteuid() == 0 && !in_user_namespace();
}

std::string default_root() {
  const char* const runtime_dir = ::getenv("XDG_RUNTIME_DIR");  // NOLINT(concurrency-mt-unsafe): one thread
  const char* const user = ::getenv("USER");                    // NOLINT(concurrency-mt-unsafe): likewise
  const bool has_dir = runtime_dir != nullptr && *runtime_dir != '\0';
  // Named root, it is a container's own root, whose /run is its own.
  const bool named_root = user != nullptr && std::string_view(user) == "root";
  const bool users_own = ::geteuid() != 0 || (!named_root && in_user_namespace());
  return has_dir && users_own ? std::string(runtime_dir) + "/berth-oci" : std::string("/run/berth-oci");
}

Result<bool> rootless_of(const Args& global) {
  const std::string word = global.value_or("rootless", "auto");
  if (word == "true" || word == "1") return true;
  if (word == "false" || word == "0") return false;
  if (word == "auto") return !machine_root();
  return fail(Code::kInvalid, "--rootless is true, false or auto, not \"" + word + "\"");
}

bool may_make_cgroup(const std::string& saved_path) {
  const auto layout = os::find_cgroups("/sys/fs/cgroup");
  if (!layout) return false;
  return std::ranges::all_of(layout->hierarchies, [&saved_path](const auto& hierarchy) {
    const std::string path = path_in(saved_path, hierarchy.name);
    return path.empty() || may_make_below(hierarchy.root.get(), path);
  });
}

void drop_device_rules(spec::Spec& spec) {
  if (spec.linux && spec.linux->resources) spec.linux->resources->devices.clear();
}

}  // namespace berth::oci
