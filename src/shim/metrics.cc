#include "shim/metrics.h"

#include <cstdint>
#include <string_view>

namespace berth::shim {
namespace {

// Just enough of the protobuf wire format: varint fields and nested messages. Source: protobuf.dev "Encoding".
void put_varint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out += static_cast<char>(value | 0x80);
    value >>= 7;
  }
  out += static_cast<char>(value);
}

void put_number(std::string& out, unsigned field, std::uint64_t value) {
  if (value == 0) return;
  put_varint(out, field << 3U);
  put_varint(out, value);
}

void put_message(std::string& out, unsigned field, std::string_view message) {
  put_varint(out, field << 3U | 2U);
  put_varint(out, message.size());
  out += message;
}

// containerd takes an unlimited cgroup's limit as the kernel writes it.
constexpr std::uint64_t kNoMemoryLimit = 0x7FFFFFFFFFFFF000;

std::string memory_entry(std::uint64_t limit, std::uint64_t usage) {
  std::string entry;
  put_number(entry, 1, limit);
  put_number(entry, 2, usage);
  return entry;
}

std::string memory_stat(const engine::Stats& stats) {
  const std::uint64_t limit = stats.memory_limit_bytes == 0 ? kNoMemoryLimit : stats.memory_limit_bytes;
  const std::uint64_t inactive_file = stats.memory_usage_bytes - stats.memory_working_set_bytes;
  std::string memory;
  put_number(memory, 2, stats.memory_rss_bytes);
  put_number(memory, 9, stats.memory_page_faults);
  put_number(memory, 10, stats.memory_major_page_faults);
  put_number(memory, 13, inactive_file);
  put_number(memory, 16, limit);
  put_number(memory, 19, stats.memory_rss_bytes);
  put_number(memory, 26, stats.memory_page_faults);
  put_number(memory, 27, stats.memory_major_page_faults);
  put_number(memory, 30, inactive_file);
  put_message(memory, 33, memory_entry(limit, stats.memory_usage_bytes));
  put_message(memory, 34, memory_entry(0, stats.memory_usage_bytes + stats.swap_usage_bytes));
  return memory;
}

}  // namespace

std::string cgroup_metrics(const engine::Stats& stats) {
  std::string pids;
  put_number(pids, 1, stats.pids);
  put_number(pids, 2, stats.pids_limit);

  std::string usage;
  put_number(usage, 1, stats.cpu_usage_ns);
  put_number(usage, 2, stats.cpu_system_ns);
  put_number(usage, 3, stats.cpu_user_ns);
  std::string throttling;
  put_number(throttling, 2, stats.cpu_throttled_periods);
  put_number(throttling, 3, stats.cpu_throttled_ns);
  std::string cpu;
  put_message(cpu, 1, usage);
  put_message(cpu, 2, throttling);

  std::string oom;
  put_number(oom, 3, stats.oom_kills);

  std::string metrics;
  put_message(metrics, 2, pids);
  put_message(metrics, 3, cpu);
  put_message(metrics, 4, memory_stat(stats));
  put_message(metrics, 9, oom);
  return metrics;
}

}  // namespace berth::shim
