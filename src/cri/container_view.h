#pragma once
#include "cri/records.h"

namespace berth::cri {

/// A container's record as the CRI shows it. Pure.
[[nodiscard]] pb::ContainerStatus container_status_of(const ContainerRecord& record);

}  // namespace berth::cri
