#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

/// Where the cgroups of pods and containers are, and what they are called. Pure functions. Paths are absolute below
/// each hierarchy.
///
///                     cgroupfs               systemd
///   a kubelet asks    /kubepods/podUID       kubepods-podUID.slice
///   the pod           /kubepods/podUID       /kubepods.slice/kubepods-podUID.slice
///   its shim          where the daemon is    .../berth-SANDBOX.scope
///   a container       .../CONTAINER          .../berth-CONTAINER.scope
namespace berth::cri {

enum class CgroupDriver : std::uint8_t {
  kCgroupfs,  ///< who needs a cgroup makes it
  kSystemd,   ///< systemd makes them, as units
};

/// The path of `parent`, the cgroup of all pods for which nobody names one: a path, under systemd the name of a slice.
/// kInvalid: it is of the other driver's form.
[[nodiscard]] Result<std::string> parent_cgroup(CgroupDriver driver, const std::string& parent);
/// The pod's. `asked`: CRI's cgroup_parent; empty: one of its own below `parent`. kInvalid: it holds "..", is no name
/// of a slice, or is of the other driver's form.
[[nodiscard]] Result<std::string> pod_cgroup(CgroupDriver driver, std::string_view asked, const std::string& parent,
                                             const std::string& sandbox_id);
/// "x.slice" of ".../x.slice", and in the same way the name of a scope.
[[nodiscard]] std::string unit_of(const std::string& path);
/// "berth-ID.scope".
[[nodiscard]] std::string scope_name(std::string_view id);
/// A container's, below its pod's.
[[nodiscard]] std::string container_cgroup(CgroupDriver driver, const std::string& pod, const std::string& id);
/// The same as linux.cgroupsPath has it: under systemd "SLICE:berth:ID".
[[nodiscard]] std::string spec_cgroups_path(CgroupDriver driver, const std::string& pod, const std::string& id);
/// What spec_cgroups_path() said when container_cgroup() said `path`.
[[nodiscard]] std::string shown_cgroups_path(const std::string& path, const std::string& id);
/// Whose a cgroup of that name is: the id in "ID", "berth-ID.scope", "PARENT-ID.slice". Not checked to be one.
[[nodiscard]] std::string_view owner_in_name(std::string_view name);

}  // namespace berth::cri
