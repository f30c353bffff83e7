#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "os/cgroup.h"
#include "spec/runtime.h"

namespace berth::cri {

/// What this machine offers, found out once at start by trying: the part of a specification that does not come from the
/// request.
struct HostFacts {
  bool cgroup_v2 = false;
  bool hugetlb = false;          ///< the controller is there
  bool swap_accounting = false;  ///< memory and swap can be limited together
  bool apparmor = false;
  /// With AppArmor: the profile of containers for which nobody names another; empty: it could not be loaded, and why.
  std::string apparmor_default{};
  std::string apparmor_problem{};
  bool selinux = false;
  /// Whether what is mounted on the host later shows in the shims' mount namespaces, as systemd has it.
  bool shared_mounts = false;
  std::uint64_t bounding_caps = ~0ULL;  ///< by capability number
  std::string hostname;
  std::string boot_id;
};
Result<HostFacts> probe_host(const os::CgroupLayout& cgroups);

/// Every device node below /dev of the host, for privileged containers. Walks /dev; folders that hold none that a
/// container may have (pts, shm, fd, mqueue) and the console are left out.
Result<std::vector<spec::Device>> host_devices();
/// The device at `host_path` under the name `container_path`, or all below a folder. Links are followed. Errors:
/// kNotFound; kInvalid neither device nor folder with devices.
Result<std::vector<spec::Device>> devices_at(const std::string& host_path, const std::string& container_path);

/// The pod's cgroup in all hierarchies. `path`: absolute below each.
[[nodiscard]] bool cgroup_exists(const os::CgroupLayout& cgroups, const std::string& path);
/// Removes it with those below it; absent is success. kPrecondition while something runs in it.
Result<> remove_cgroups(const os::CgroupLayout& cgroups, const std::string& path);

}  // namespace berth::cri
