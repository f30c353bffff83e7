#pragma once
#include "berth/shim/v1/shim.pb.h"
#include "cri/runtime/v1/api.pb.h"
#include "os/cgroup_usage.h"

/// One reading of a cgroup as the CRI has it, the same for containers and pods. Figures that are not known are absent.
namespace berth::cri {

namespace pb = ::runtime::v1;

/// What a shim read of a container's cgroup.
[[nodiscard]] os::CgroupUsage to_usage(const ::berth::shim::v1::ContainerStatsResponse& sample);

/// Without the rate, which needs two readings.
void fill_cpu(pb::CpuUsage& out, const os::CgroupUsage& usage);
void fill_memory(pb::MemoryUsage& out, const os::CgroupUsage& usage);
void fill_swap(pb::SwapUsage& out, const os::CgroupUsage& usage);
/// To be called where usage.io_pressure is there: it is all that the CRI tells of it.
void fill_io(pb::IoUsage& out, const os::CgroupUsage& usage);

}  // namespace berth::cri
