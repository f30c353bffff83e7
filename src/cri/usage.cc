#include "cri/usage.h"

#include <optional>

namespace berth::cri {

namespace {

namespace bs = ::berth::shim::v1;

constexpr std::uint64_t kNsPerUs = 1000;

std::uint64_t less(std::uint64_t limit, std::uint64_t used) {
  return limit > used ? limit - used : 0;
}

os::PressureLine to_line(const bs::PressureLine& line) {
  return {.total_us = line.total_us(), .avg10 = line.avg10(), .avg60 = line.avg60(), .avg300 = line.avg300()};
}
os::Pressure to_pressure(const bs::Pressure& pressure) {
  return {.some = to_line(pressure.some()), .full = to_line(pressure.full())};
}

void fill_line(pb::PsiData& out, const os::PressureLine& line) {
  out.set_total(line.total_us * kNsPerUs);
  out.set_avg10(line.avg10);
  out.set_avg60(line.avg60);
  out.set_avg300(line.avg300);
}
void fill_pressure(pb::PsiStats& out, const os::Pressure& pressure) {
  fill_line(*out.mutable_some(), pressure.some);
  fill_line(*out.mutable_full(), pressure.full);
}

}  // namespace

os::CgroupUsage to_usage(const bs::ContainerStatsResponse& sample) {
  os::CgroupUsage usage;
  usage.timestamp_ns = sample.timestamp_ns();
  usage.cpu_usage_ns = sample.cpu_usage_ns();
  usage.memory_usage_bytes = sample.memory_usage_bytes();
  usage.memory_working_set_bytes = sample.memory_working_set_bytes();
  usage.memory_rss_bytes = sample.memory_rss_bytes();
  usage.memory_page_faults = sample.memory_page_faults();
  usage.memory_major_page_faults = sample.memory_major_page_faults();
  usage.memory_limit_bytes = sample.memory_limit_bytes();
  usage.pids = sample.pids();
  usage.swap_usage_bytes = sample.swap_usage_bytes();
  if (sample.has_swap_limit_bytes()) usage.swap_limit_bytes = sample.swap_limit_bytes();
  if (sample.has_cpu_pressure()) usage.cpu_pressure = to_pressure(sample.cpu_pressure());
  if (sample.has_memory_pressure()) usage.memory_pressure = to_pressure(sample.memory_pressure());
  if (sample.has_io_pressure()) usage.io_pressure = to_pressure(sample.io_pressure());
  return usage;
}

void fill_cpu(pb::CpuUsage& out, const os::CgroupUsage& usage) {
  out.set_timestamp(usage.timestamp_ns);
  out.mutable_usage_core_nano_seconds()->set_value(usage.cpu_usage_ns);
  if (usage.cpu_pressure) fill_pressure(*out.mutable_psi(), *usage.cpu_pressure);
}

void fill_memory(pb::MemoryUsage& out, const os::CgroupUsage& usage) {
  out.set_timestamp(usage.timestamp_ns);
  out.mutable_working_set_bytes()->set_value(usage.memory_working_set_bytes);
  out.mutable_usage_bytes()->set_value(usage.memory_usage_bytes);
  out.mutable_rss_bytes()->set_value(usage.memory_rss_bytes);
  out.mutable_page_faults()->set_value(usage.memory_page_faults);
  out.mutable_major_page_faults()->set_value(usage.memory_major_page_faults);
  if (usage.memory_limit_bytes != 0) {
    out.mutable_available_bytes()->set_value(less(usage.memory_limit_bytes, usage.memory_working_set_bytes));
  }
  if (usage.memory_pressure) fill_pressure(*out.mutable_psi(), *usage.memory_pressure);
}

void fill_swap(pb::SwapUsage& out, const os::CgroupUsage& usage) {
  out.set_timestamp(usage.timestamp_ns);
  out.mutable_swap_usage_bytes()->set_value(usage.swap_usage_bytes);
  if (usage.swap_limit_bytes) {
    out.mutable_swap_available_bytes()->set_value(less(*usage.swap_limit_bytes, usage.swap_usage_bytes));
  }
}

void fill_io(pb::IoUsage& out, const os::CgroupUsage& usage) {
  out.set_timestamp(usage.timestamp_ns);
  if (usage.io_pressure) fill_pressure(*out.mutable_psi(), *usage.io_pressure);
}

}  // namespace berth::cri
