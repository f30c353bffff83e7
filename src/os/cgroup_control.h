#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "os/cgroup.h"

/// Making cgroups ready for processes and limits, and writing their control files. Blocks on the kernel alone (a memory
/// limit below what is in use makes it reclaim first).
namespace berth::os {

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

/// Performs the writes in the cgroup that is at `paths`, in the order of `layout`, "" where it is not. What the kernel
/// refuses as invalid or busy is tried once more after the rest, since limits bind each other.
/// Errors: kUnsupported no such controller or file, unless the write is optional; kInvalid EINVAL, ERANGE;
/// kPrecondition EBUSY; else kInternal. Idempotent; after an error a part may be in force.
Result<> apply_cgroup_plan(const CgroupLayout& layout, const std::vector<std::string>& paths, const CgroupPlan& plan);

/// cpu.shares (2..262144) to cpu.weight (1..10000); 0 stays 0, which means unset.
[[nodiscard]] std::uint64_t cpu_weight_of_shares(std::uint64_t shares);

/// v1: a new cpuset is empty and nobody may enter it: every level of `path` (absolute below `root_fd`) without a value
/// gets its parent's. `made`: the last folder is new, so that what it has need not be read.
Result<> init_cpuset(int root_fd, const std::string& path, bool made);
/// v2: hands the controllers that the root has down to `path`. One that refuses does not keep the others off.
Result<> enable_controllers(int root_fd, const std::string& path);
/// The cgroup `path` in every hierarchy, made if absent, and ready for limits and processes. Idempotent.
Result<> make_cgroups(const CgroupLayout& layout, const std::string& path);

}  // namespace berth::os
