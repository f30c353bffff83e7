#pragma once
#include "base/result.h"
#include "cri/host_facts.h"
#include "cri/runtime/v1/api.pb.h"
#include "os/cgroup_control.h"
#include "spec/json_text.h"

/// A pod's own limits: those of all its containers together (`resources`) and what running it costs (`overhead`). Its
/// cgroup is given the sum, which is also what a kubelet writes there. Pure functions.
namespace berth::cri {

namespace pb = ::runtime::v1;

/// `old` with what `asked` names; 0 and "" name nothing.
[[nodiscard]] pb::LinuxContainerResources merged(const pb::LinuxContainerResources& old,
                                                 const pb::LinuxContainerResources& asked);

/// Resources and overhead of a pod.
struct PodResources {
  pb::LinuxContainerResources resources;
  pb::LinuxContainerResources overhead;
};

/// The writes that bring the pod's cgroup to the sum of `whole`, for each limit that one of `asked` names. `resources`
/// decides whether there is a limit at all: where it has none (0) nothing is written, and where it lifts one (below 0)
/// the sum has none either. oom_score_adj is each container's own and names nothing here.
/// Errors: kInvalid a value that cannot be, or the same `unified` file in both; kUnsupported `unified` under cgroup v1,
/// huge pages or swap without their controller.
[[nodiscard]] Result<os::CgroupPlan> plan_pod_cgroup(const PodResources& whole, const PodResources& asked,
                                                     const HostFacts& host);

/// As an object for PodSandboxStatus' `info`.
void write_resources_json(spec::JsonWriter& json, const pb::LinuxContainerResources& resources);

}  // namespace berth::cri
