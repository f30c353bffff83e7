#include "engine/external/mount_places.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <optional>

#include "os/file.h"
#include "os/mount.h"

namespace berth::engine::external {
namespace {

std::string folder_of(const std::string& bundle) {
  return bundle + "/mounts";
}

Result<> make_place(int tree_fd, const std::string& place) {
  struct stat status{};
  if (::fstat(tree_fd, &status) != 0) return fail_errno(errno, "stat the tree");
  if (S_ISDIR(status.st_mode)) return os::make_dirs(place, 0700);
  BERTH_ASSIGN(const UniqueFd file, os::open_file(place, O_WRONLY | O_CREAT, 0600), "place of a mount");
  return {};
}

// The folder as a mount of its own, which holds the places: from its root every mount at and in them is reached, also
// one that lies beneath another. It is private, so that they propagate to no other mount namespace.
Result<> mount_folder(const std::string& folder) {
  BERTH_TRY(os::make_dirs(folder, 0700), "folder");
  BERTH_ASSIGN(const UniqueFd tree, os::clone_tree(AT_FDCWD, folder, false), "folder");
  BERTH_TRY(os::change_mount(tree.get(), {0, 0, MS_PRIVATE, -1}, false), "folder");
  return os::attach_tree_at(tree.get(), folder);
}

bool is_none(const Error& error) {
  return error.errno_value() == EINVAL || error.errno_value() == ENOENT;
}

// By as many as an attempt that failed may have left.
Result<> detach_folder(const std::string& folder) {
  while (true) {
    // First they leave their peers: what is mounted on or in one would else be unmounted there, too
    // (mount_namespaces(7)). The path of a place would name the topmost mount alone.
    if (auto left = os::change_mount_at(folder, {0, 0, MS_PRIVATE, -1}, true); !left) {
      return is_none(left.error()) ? Result<>() : left;
    }
    BERTH_TRY(os::detach_mount(folder), "places");
  }
}

// A file or an empty folder. It is never emptied: what shows here against all expectation is the host's. EBUSY while
// something is mounted at it.
Result<> remove_place(const std::string& path) {
  if (std::remove(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "remove " + path);
  return {};
}

}  // namespace

Result<> attach_mount_trees(CreateRequest& request) {
  if (request.mount_trees.empty()) return {};
  const std::string folder = folder_of(request.bundle);
  BERTH_TRY(mount_folder(folder), "mounts");
  for (const auto& [index, tree] : request.mount_trees) {
    auto& mount = request.spec.mounts.at(index);
    const std::string place = folder + "/" + std::to_string(index);
    BERTH_TRY(make_place(tree.get(), place), "mount " + mount.destination);
    BERTH_TRY(os::attach_tree_at(tree.get(), place), "mount " + mount.destination);
    mount.source = place;
  }
  return {};
}

Result<> detach_mount_trees(const std::string& bundle) {
  const std::string folder = folder_of(bundle);
  BERTH_TRY(detach_folder(folder), "detach");
  const auto names = os::list_dir(folder);
  if (!names && names.error().code() == Code::kNotFound) return {};
  if (!names) return fail(names.error());
  std::optional<Error> first;
  for (const auto& name : *names) {
    auto removed = remove_place(std::string(folder).append("/").append(name));
    if (!removed && !first) first = std::move(removed).error();
  }
  if (first) return fail(std::move(*first));
  return remove_place(folder);
}

}  // namespace berth::engine::external
