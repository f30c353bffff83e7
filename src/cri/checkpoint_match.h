#pragma once
#include "base/result.h"
#include "cri/runtime/v1/api.pb.h"

/// Whether a request for a restore fits what was checkpointed. Pure. What lies outside of the processes may differ:
/// labels, annotations, logs, where mounts come from, limits.
namespace berth::cri {

namespace pb = ::runtime::v1;

/// Errors: kInvalid names the first field that differs and must not.
[[nodiscard]] Result<> match_pod(const pb::PodSandboxConfig& asked, const pb::PodSandboxConfig& saved);
[[nodiscard]] Result<> match_container(const pb::ContainerConfig& asked, const pb::ContainerConfig& saved);

}  // namespace berth::cri
