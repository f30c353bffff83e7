#pragma once
#include "cri/records.h"

namespace berth::cri {

/// The status of a sandbox as the CRI shows it. From the record alone.
[[nodiscard]] pb::PodSandboxStatus sandbox_status_of(const SandboxRecord& record);

}  // namespace berth::cri
