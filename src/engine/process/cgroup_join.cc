#include <fcntl.h>
#include <sched.h>

#include <algorithm>

#include "engine/process/launch.h"
#include "engine/process/protocol.h"
#include "os/mount.h"
#include "os/namespace.h"

// How the child gets into its cgroup. Under v1, where a cgroup is a folder in each of a dozen hierarchies, the parent
// makes them while the child builds its root: on two CPUs that is a fifth of the time that a container takes.

namespace berth::engine::process {

namespace {

bool shows_cgroup(const Launch& launch, const Cgroup& cgroup) {
  const bool wanted =
      std::ranges::any_of(launch.mounts.mounts, [](const auto& mount) { return mount.kind == MountKind::kCgroup; });
  // In a cgroup namespace a v2 mount shows the container's part by itself.
  return wanted && !cgroup.empty() && !(cgroup.v2() && launch.makes(CLONE_NEWCGROUP));
}

/// The container's own cgroup folders, for a mount of type "cgroup" inside. By path, since a mount can only be copied
/// by who is in its mount namespace or a copy of it, which has the same by the same path.
Result<> open_trees(const Cgroup& cgroup, Launch& launch) {
  if (!shows_cgroup(launch, cgroup)) return {};
  const auto& layout = *cgroup.layout();
  for (std::size_t i = 0; i < cgroup.paths().size(); ++i) {
    const std::string& name = layout.hierarchies[i].name;
    const std::string& path = cgroup.paths()[i];
    if (path.empty()) continue;
    const std::string folder = layout.root + (name.empty() ? "" : "/") + name + path;
    auto tree = os::clone_tree(AT_FDCWD, folder, false);
    if (!tree && tree.error().errno_value() == EPERM) {
      return fail(Code::kDenied, "a cgroup mount under v1 needs the right to mount");
    }
    if (!tree) return fail(std::move(tree).error().in("cgroup " + name));
    launch.cgroup_trees.push_back({name, std::move(*tree)});
  }
  return {};
}

}  // namespace

bool may_join_late(const Launch& launch, const Cgroup& cgroup) {
  if (cgroup.empty() || cgroup.v2() || launch.in_user_namespace()) return false;
  // Its devices are asked for before the mounts, and the answer to that is not told from this one.
  if (!launch.spec->linux->net_devices.empty()) return false;
  return std::ranges::none_of(launch.joins, [](const auto& join) {
    return join.clone_flag == CLONE_NEWNS || join.clone_flag == CLONE_NEWCGROUP;
  });
}

Result<> open_cgroup(const Cgroup& cgroup, Launch& launch) {
  BERTH_ASSIGN(launch.cgroup, cgroup.entry(""), "cgroup");
  return open_trees(cgroup, launch);
}

Result<> join_pending_cgroup(Launch& launch) {
  if (!launch.cgroup_pending) return {};
  launch.cgroup_pending = false;
  BERTH_TRY(expect_signal(launch.channel, Signal::kCgroup), "cgroup");
  const Cgroup& cgroup = *launch.cgroup_place;
  BERTH_TRY(open_trees(cgroup, launch), "cgroup");
  std::vector<int> folders;
  folders.reserve(launch.cgroup_trees.size());
  for (const auto& entry : launch.cgroup_trees) folders.push_back(entry.tree.get());
  // Closed before these mounts become read-only, which nobody may write by them meanwhile.
  BERTH_ASSIGN(const CgroupEntry entry, folders.empty() ? cgroup.entry("") : cgroup.entry_by(folders), "cgroup");
  BERTH_TRY(entry.enter(), "cgroup");
  // Its root is the cgroup that its maker is in.
  return launch.makes(CLONE_NEWCGROUP) ? os::unshare_namespaces(CLONE_NEWCGROUP) : Result<>();
}

}  // namespace berth::engine::process
