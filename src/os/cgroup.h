#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::os {

/// One mounted cgroup hierarchy.
struct CgroupHierarchy {
  std::string name;  ///< its folder below the cgroup root: "memory", "cpu,cpuacct"; "" for a pure v2
  std::vector<std::string> controllers;  ///< v1: "cpu", "cpuacct", "name=systemd"; v2: empty, ask cgroup.controllers
  UniqueFd root;                         ///< O_PATH of its topmost visible cgroup
};

/// What is mounted below the cgroup root (/sys/fs/cgroup). Found without mountinfo: by the folders there and their file
/// system type, as distributions lay them out. In the hybrid layout the v2 hierarchy, which has no controllers, is
/// apart.
struct CgroupLayout {
  bool v2 = false;                           ///< one hierarchy, cgroup v2
  std::string root;                          ///< where they are mounted, as given to find_cgroups()
  std::vector<CgroupHierarchy> hierarchies;  ///< empty: no cgroups here
  UniqueFd unified;                          ///< the v2 hierarchy beside v1's, by which systemd counts processes

  /// The v1 hierarchy with `controller`, or the v2 one; nullptr if there is none.
  [[nodiscard]] const CgroupHierarchy* find(std::string_view controller) const;
};
Result<CgroupLayout> find_cgroups(const std::string& cgroup_root);

/// The caller's own cgroup in each hierarchy of `layout`, in its order ("/" is the root). Source: cgroups(7).
Result<std::vector<std::string>> own_cgroups(const CgroupLayout& layout);

/// mkdir -p of `path` (absolute below `root_fd`); true when the last folder was made now.
Result<bool> make_cgroup(int root_fd, const std::string& path);
/// Removes the cgroup and those below it; absent is success. kPrecondition (EBUSY) while processes are in one.
Result<> remove_cgroup(int root_fd, const std::string& path);
/// Names of the cgroups directly below.
Result<std::vector<std::string>> child_cgroups(int root_fd, const std::string& path);

}  // namespace berth::os
