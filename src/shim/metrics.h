#pragma once
#include <string>

#include "engine/engine.h"

namespace berth::shim {

/// Type URL of cgroup_metrics().
inline constexpr const char* kMetricsType = "io.containerd.cgroups.v1.Metrics";

/// `stats` as the protobuf message io.containerd.cgroups.v1.Metrics, which containerd and its clients read whatever
/// cgroup version the host has. Holds what our statistics hold: pids, cpu usage and throttling, memory. Written by
/// hand, since it is the only use of that file. Source: containerd/cgroups stats/v1/metrics.proto.
[[nodiscard]] std::string cgroup_metrics(const engine::Stats& stats);

}  // namespace berth::shim
