#pragma once
#include <string>

#include "base/result.h"
#include "os/process_attr.h"
#include "spec/runtime.h"

namespace berth::engine::process {

/// Words of the specification as the kernel's numbers. Pure. Errors: kInvalid an unknown word.
/// Source: runtime-spec config.md "Linux Process" (scheduler, ioPriority), config-linux.md "Personality".
Result<os::SchedAttributes> scheduler_attributes(const spec::Scheduler& scheduler);
Result<int> io_class_number(const std::string& name);
Result<unsigned long> personality_number(const spec::Personality& personality);

}  // namespace berth::engine::process
