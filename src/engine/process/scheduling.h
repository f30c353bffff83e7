#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "os/id_list.h"
#include "os/process_attr.h"
#include "spec/runtime.h"

namespace berth::engine::process {

/// Words of the specification as the kernel's numbers. Pure. Errors: kInvalid an unknown word.
/// Source: runtime-spec config.md "Linux Process" (scheduler, ioPriority), config-linux.md "Personality".
Result<os::SchedAttributes> scheduler_attributes(const spec::Scheduler& scheduler);
Result<int> io_class_number(const std::string& name);
Result<unsigned long> personality_number(const spec::Personality& personality);

using os::parse_id_list;

struct MemoryPolicy {
  int mode = 0;  ///< MPOL_*, with MPOL_F_*
  std::vector<std::uint64_t> nodes;
};
/// Errors: kInvalid also for nodes with a mode that takes none, or none with one that needs some.
/// Source: config-linux.md "Memory policy", set_mempolicy(2).
Result<MemoryPolicy> memory_policy(const spec::MemoryPolicy& policy);
/// The words that memory_policy() takes, for `features`.
[[nodiscard]] std::vector<std::string_view> memory_policy_modes();
[[nodiscard]] std::vector<std::string_view> memory_policy_flags();

}  // namespace berth::engine::process
