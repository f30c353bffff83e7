#pragma once
#include "base/result.h"
#include "os/cgroup_control.h"
#include "spec/runtime.h"

namespace berth::engine::process {

using os::CgroupPlan;
using os::CgroupWrite;
using os::cpu_weight_of_shares;

/// The writes that give a cgroup the limits of `resources`, in the order in which the kernel takes them for a fresh
/// cgroup. Pure. Errors: kInvalid a value that cannot be; kUnsupported `unified` under v1.
/// Source: runtime-spec config-linux.md "Control groups"; kernel admin-guide cgroup-v1 and cgroup-v2.
Result<CgroupPlan> plan_cgroup_v1(const spec::Resources& resources);
/// Device rules are no part of it: v2 has no file for them (device_filter.h).
Result<CgroupPlan> plan_cgroup_v2(const spec::Resources& resources);

}  // namespace berth::engine::process
