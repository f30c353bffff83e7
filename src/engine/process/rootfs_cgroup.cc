#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/strings.h"
#include "engine/process/launch.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/root_path.h"

namespace berth::engine::process {

namespace {

/// v1: one tmpfs with a folder for each hierarchy, which shows the container's own cgroup as its root, and links for
/// controllers that share one ("cpu" to "cpu,cpuacct").
Result<> mount_v1(const Launch& launch, const PlannedMount& mount, int root_fd, int target_fd) {
  BERTH_ASSIGN(const UniqueFd context, os::fs_open("tmpfs"), "cgroup folder");
  BERTH_TRY(os::fs_set(context.get(), "mode", "755"), "cgroup folder");
  BERTH_TRY(os::fs_set(context.get(), "source", "tmpfs"), "cgroup folder");
  const std::string& label = launch.spec->linux->mount_label;
  if (!label.empty()) BERTH_TRY(os::fs_set(context.get(), "context", label.c_str()), "cgroup folder");
  BERTH_ASSIGN(const UniqueFd tmpfs, os::fs_mount(context.get(), 0), "cgroup folder");
  BERTH_TRY(os::attach_tree(tmpfs.get(), target_fd), "cgroup folder");
  for (const auto& entry : launch.cgroup_trees) {
    if (::mkdirat(tmpfs.get(), entry.name.c_str(), 0755) != 0) return fail_errno(errno, "mkdir " + entry.name);
    BERTH_ASSIGN(const UniqueFd folder, os::open_at(tmpfs.get(), entry.name, O_PATH | O_DIRECTORY | O_NOFOLLOW),
                 "cgroup");
    BERTH_TRY(os::attach_tree(entry.tree.get(), folder.get()), "cgroup " + entry.name);
    const auto parts = split(entry.name, ',');
    for (const auto part : parts) {
      if (parts.size() == 1) break;
      if (::symlinkat(entry.name.c_str(), tmpfs.get(), std::string(part).c_str()) != 0 && errno != EEXIST) {
        return fail_errno(errno, "link " + std::string(part));
      }
    }
  }
  // Looked up again, since target_fd names the folder below the tmpfs: now all of it gets the options at once.
  BERTH_ASSIGN(const UniqueFd top, os::open_in_root(root_fd, mount.target, O_DIRECTORY), "cgroup folder");
  return os::change_mount(top.get(), {mount.options.set | mount.options.recursive_set, 0, 0, -1}, true);
}

Result<> mount_v2(const Launch& launch, const PlannedMount& mount, int target_fd) {
  if (launch.cgroup_trees.empty()) {
    BERTH_ASSIGN(const UniqueFd context, os::fs_open("cgroup2"), "cgroup2");
    BERTH_ASSIGN(const UniqueFd tree, os::fs_mount(context.get(), mount.options.set | mount.options.recursive_set),
                 "cgroup2");
    return os::attach_tree(tree.get(), target_fd);
  }
  const int tree = launch.cgroup_trees.front().tree.get();
  BERTH_TRY(os::change_mount(tree, {mount.options.set | mount.options.recursive_set, 0, 0, -1}, false), "cgroup2");
  return os::attach_tree(tree, target_fd);
}

}  // namespace

Result<> mount_cgroup(const Launch& launch, const PlannedMount& mount, int root_fd, int target_fd) {
  if (launch.cgroup.v2_dir.valid()) return mount_v2(launch, mount, target_fd);
  return mount_v1(launch, mount, root_fd, target_fd);
}

}  // namespace berth::engine::process
