#pragma once
#include <string>

#include "base/result.h"
#include "nri/owners.h"
#include "spec/runtime.h"

namespace berth::nri {

/// What this machine offers.
struct Machine {
  bool swap_accounting = false;  ///< a limit of memory is one of swap too
  bool hugetlb = false;
  bool cgroup_v2 = false;
  bool shared_mounts = false;  ///< what is mounted on the host later shows in the shims' mount namespaces
};

/// Changes `spec` as the plugins ask for, but for CDI devices, which are the caller's to add before. `owners` names the
/// plugin in errors. Errors, each with plugin and field: kUnsupported what Berth does not offer (named classes of block
/// I/O and RDT, a mount that would reach the host, systemd's form of a cgroups path); kInvalid what cannot be (no
/// absolute path, no such namespace or enumerator, a mount option that is Berth's own). `spec` is half changed then.
[[nodiscard]] Result<> apply(const api::ContainerAdjustment& adjust, const Owners& owners, const std::string& container,
                             const Machine& machine, spec::Spec& spec);

/// Puts the limits that are set in `asked` into `into`. A limit of memory without one of swap sets that too where swap
/// is counted, as at a container's creation. Errors: kUnsupported, kInvalid, naming the field.
[[nodiscard]] Result<> apply(const api::LinuxResources& asked, const Machine& machine, spec::Resources& into);

}  // namespace berth::nri
