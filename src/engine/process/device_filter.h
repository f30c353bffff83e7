#pragma once
#include <cstdint>
#include <vector>

#include "spec/runtime.h"

namespace berth::engine::process {

/// The rules with what every container needs whatever they say, as runc adds it: making nodes, the default devices,
/// terminals. Empty stays empty.
[[nodiscard]] std::vector<spec::DeviceRule> with_default_rules(const std::vector<spec::DeviceRule>& rules);

/// The BPF program that decides as the rules do: the last one that applies wins; an access that no rule names is
/// allowed, as in a fresh v1 cgroup. An "allow" applies when it covers the whole access, a "deny" when it touches it.
/// Pure. Source: runtime-spec config-linux.md "Allowed Device list"; struct bpf_cgroup_dev_ctx in linux/bpf.h.
[[nodiscard]] std::vector<std::uint64_t> device_program(const std::vector<spec::DeviceRule>& rules);

}  // namespace berth::engine::process
