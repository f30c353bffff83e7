#include <cstddef>
#include <cstdint>

#include "engine/process/cgroup_plan.h"
#include "engine/process/intel_rdt.h"
#include "engine/process/launch.h"
#include "engine/process/mount_plan.h"
#include "engine/process/scheduling.h"
#include "engine/process/sysctl.h"

/// Whatever a config.json holds, the plans made of it are a list or an error, and no file name in them leaves its
/// folder.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace berth;
  using namespace berth::engine::process;
  const auto spec = spec::parse_spec({reinterpret_cast<const char*>(data), size});
  if (!spec) return 0;
  if (const auto plan = plan_mounts(*spec, "/bundle")) {
    for (const auto& mount : plan->mounts) {
      if (!mount.target.starts_with('/') || mount.target == "/") __builtin_trap();
    }
    if (describe(*plan).empty()) __builtin_trap();
  }
  static_cast<void>(plan_devices(*spec));
  if (!spec->linux) return 0;
  static_cast<void>(check_sysctls(*spec->linux));
  if (spec->linux->personality) static_cast<void>(personality_number(*spec->linux->personality));
  if (spec->process && spec->process->scheduler) static_cast<void>(scheduler_attributes(*spec->process->scheduler));
  if (spec->linux->memory_policy) static_cast<void>(memory_policy(*spec->linux->memory_policy));
  if (spec->linux->intel_rdt) {
    const auto rdt = plan_rdt(*spec->linux->intel_rdt, "id");
    if (rdt && rdt->group.find('/') != std::string::npos) __builtin_trap();
    static_cast<void>(schemata_have(spec->linux->intel_rdt->mem_bw_schema, spec->linux->intel_rdt->l3_cache_schema));
  }
  if (!spec->linux->resources) return 0;
  for (const auto& plan : {plan_cgroup_v1(*spec->linux->resources), plan_cgroup_v2(*spec->linux->resources)}) {
    if (!plan) continue;
    for (const auto& write : *plan) {
      if (write.file.find('/') != std::string::npos || write.file.starts_with('.')) __builtin_trap();
    }
  }
  return 0;
}
