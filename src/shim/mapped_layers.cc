#include "shim/mapped_layers.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "os/mount.h"
#include "os/user_namespace.h"

namespace berth::shim {
namespace {

/// The folder that all of `paths` are in, "/" at the least.
std::string common_folder(const std::vector<std::string>& paths) {
  std::string common = paths.front().substr(0, paths.front().rfind('/'));
  for (const std::string& path : paths) {
    while (!path.starts_with(common + "/")) common.resize(common.rfind('/'));
  }
  return common.empty() ? "/" : common;
}

Result<> expect_same(const std::string& layer, const std::string& mapped) {
  struct stat one{};
  struct stat other{};
  if (::stat(layer.c_str(), &one) != 0) return fail_errno(errno, "layer " + layer);
  const bool same = ::stat(mapped.c_str(), &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
  if (!same) return fail(Code::kUnsupported, "layer " + layer + " is in another mount than those beside it");
  return {};
}

}  // namespace

Result<std::string> parse_id_range(std::string_view text) {
  const auto words = split(text, ':');
  std::array<std::uint32_t, 3> numbers{};
  bool good = words.size() == numbers.size();
  for (std::size_t i = 0; good && i < numbers.size(); ++i) {
    const auto number = parse_number<std::uint32_t>(words[i]);
    good = number.has_value();
    numbers[i] = number.value_or(0);
  }
  if (!good || numbers[2] == 0) {
    return fail(Code::kInvalid, "\"" + std::string(text.substr(0, 64)) + "\" is no range of ids");
  }
  return std::to_string(numbers[0]) + " " + std::to_string(numbers[1]) + " " + std::to_string(numbers[2]) + "\n";
}

Result<UniqueFd> open_root_map(const std::string& uid_map, const std::string& gid_map) {
  auto made = os::make_user_namespace(uid_map, gid_map);
  if (!made) return fail(std::move(made).error().in("id map of the root file system"));
  return std::move(made->user);
}

Result<> map_mount(int tree_fd, int map_fd) {
  os::MountChange change;
  change.set = MOUNT_ATTR_IDMAP;
  change.user_ns_fd = map_fd;
  auto done = os::change_mount(tree_fd, change, false);
  if (done) return {};
  // EINVAL: the file system; EPERM: it was mounted in another user namespace, or has a map already.
  const int e = done.error().errno_value();
  const bool unsupported = e == EINVAL || e == EPERM;
  Error error = std::move(done).error().in("the file system takes no id map");
  return fail(unsupported ? std::move(error).as(Code::kUnsupported) : std::move(error));
}

Result<MappedLayers> MappedLayers::attach(const std::vector<std::string>& lower, int map_fd, const std::string& spare) {
  // One alone may be a mount by itself; of several, which are folders beside one another, one clone is enough.
  const std::string folder = lower.size() == 1 ? lower.front() : common_folder(lower);
  BERTH_ASSIGN(const UniqueFd tree, os::clone_tree(AT_FDCWD, folder, false), "layers");
  BERTH_TRY(map_mount(tree.get(), map_fd), "layers in " + folder);
  BERTH_TRY(os::attach_tree_at(tree.get(), spare), "layers");
  MappedLayers layers(spare);
  const std::size_t prefix = folder == "/" ? 0 : folder.size();
  for (const std::string& path : lower) {
    layers.paths_.push_back(spare + path.substr(prefix));
    BERTH_TRY(expect_same(path, layers.paths_.back()), "layers");
  }
  return layers;
}

MappedLayers::MappedLayers(MappedLayers&& other) noexcept
    : spare_(std::exchange(other.spare_, {})), paths_(std::move(other.paths_)) {}

MappedLayers::~MappedLayers() {
  if (spare_.empty()) return;
  if (auto detached = os::detach_mount(spare_); !detached) {
    log_error("layers with an id map stay mounted", {{"path", spare_}, {"err", detached.error().text()}});
  }
}

}  // namespace berth::shim
