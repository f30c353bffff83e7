#pragma once
#include <cstdint>
#include <vector>

#include "base/result.h"

namespace berth::os {

/// Loads a program of type BPF_PROG_TYPE_CGROUP_DEVICE and attaches it to the cgroup v2 folder `cgroup_fd` (borrowed),
/// in addition to those that are there (all must allow). `instructions`: as the kernel has them, 8 bytes each. It lives
/// as long as the cgroup. `replace`: takes away the programs that were attached to this very cgroup before. Errors:
/// kDenied; kUnsupported no BPF for cgroups; kInvalid the verifier refused it. Source: bpf(2), cgroup-v2.rst.
Result<> attach_device_program(int cgroup_fd, const std::vector<std::uint64_t>& instructions, bool replace);

}  // namespace berth::os
