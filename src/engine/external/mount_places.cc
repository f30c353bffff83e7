#include "engine/external/mount_places.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
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

Result<> detach(const std::string& place) {
  // First it leaves its peers: what is mounted in it would else be unmounted there, too (mount_namespaces(7)).
  auto done = os::change_mount_at(place, {0, 0, MS_PRIVATE, -1}, true);
  if (done) done = os::detach_mount(place);
  const bool none = !done && (done.error().errno_value() == EINVAL || done.error().errno_value() == ENOENT);
  return none ? Result<>() : done;
}

}  // namespace

Result<> attach_mount_trees(CreateRequest& request) {
  if (request.mount_trees.empty()) return {};
  const std::string folder = folder_of(request.bundle);
  BERTH_TRY(os::make_dirs(folder, 0700), "mounts");
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
  const auto names = os::list_dir(folder);
  if (!names && names.error().code() == Code::kNotFound) return {};
  if (!names) return fail(names.error());
  std::optional<Error> first;
  for (const auto& name : *names) {
    auto detached = detach(std::string(folder).append("/").append(name));
    if (!detached && !first) first = std::move(detached).error();
  }
  if (first) return fail(std::move(*first));
  return os::remove_tree(folder);
}

}  // namespace berth::engine::external
