#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "spec/runtime.h"

namespace berth::engine::process {

/// One write to a control file of a cgroup.
struct CgroupWrite {
  std::string controller;  ///< "memory"; v2's own files (unified "cgroup.x"): "cgroup"
  std::string file;        ///< "memory.max"
  std::string value;
  /// The write asks for nothing that the kernel would not do anyway (a limit of zero for something that is not there,
  /// no limit): an absent controller or file is no error.
  bool optional = false;
  bool operator==(const CgroupWrite&) const = default;
};
using CgroupPlan = std::vector<CgroupWrite>;

/// The writes that give a cgroup the limits of `resources`, in the order in which the kernel takes them for a fresh
/// cgroup. Pure. Errors: kInvalid a value that cannot be; kUnsupported `unified` under v1.
/// Source: runtime-spec config-linux.md "Control groups"; kernel admin-guide cgroup-v1 and cgroup-v2.
Result<CgroupPlan> plan_cgroup_v1(const spec::Resources& resources);
/// Device rules are no part of it: v2 has no file for them (device_filter.h).
Result<CgroupPlan> plan_cgroup_v2(const spec::Resources& resources);

/// cpu.shares (2..262144) to cpu.weight (1..10000); 0 stays 0, which means unset.
[[nodiscard]] std::uint64_t cpu_weight_of_shares(std::uint64_t shares);

}  // namespace berth::engine::process
