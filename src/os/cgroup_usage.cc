#include "os/cgroup_usage.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/strings.h"
#include "os/file.h"

namespace berth::os {

namespace {

constexpr std::size_t kFileLimit = 256U << 10;
// v1 reports "no limit" as the largest page-aligned number; nothing real is above this.
constexpr std::uint64_t kNoLimit = 1ULL << 62U;

struct Place {
  const CgroupLayout& layout;
  const std::vector<std::string>& paths;

  /// The folder in the hierarchy that has `controller`; invalid where there is none.
  [[nodiscard]] UniqueFd open(std::string_view controller) const {
    const auto* const hierarchy = layout.find(controller);
    if (hierarchy == nullptr) return UniqueFd();
    const auto index = static_cast<std::size_t>(hierarchy - layout.hierarchies.data());
    if (index >= paths.size() || paths[index].empty()) return UniqueFd();
    const std::string below = paths[index] == "/" ? std::string(".") : paths[index].substr(1);
    return open_at(hierarchy->root.get(), below, O_PATH | O_DIRECTORY).value_or(UniqueFd());
  }
};

std::uint64_t less(std::uint64_t a, std::uint64_t b) {
  return a > b ? a - b : 0;
}

std::optional<Pressure> pressure_of(int dir_fd, const char* file) {
  // With PSI switched off the file is not there, or reading it fails.
  const auto text = read_file_at(dir_fd, file, kMaxPressureText);
  return text ? parse_pressure(*text) : std::nullopt;
}

void read_pressure(int dir_fd, CgroupUsage& stats) {
  stats.cpu_pressure = pressure_of(dir_fd, "cpu.pressure");
  stats.memory_pressure = pressure_of(dir_fd, "memory.pressure");
  stats.io_pressure = pressure_of(dir_fd, "io.pressure");
}

/// The v2 hierarchy beside v1's has no controllers and yet the pressure of those who are in it: systemd's and other
/// runtimes' processes. An empty folder of the same name would tell zeros.
void read_hybrid_pressure(const Place& place, CgroupUsage& stats) {
  if (!place.layout.unified.valid()) return;
  const auto own = std::ranges::find_if(place.paths, [](const auto& path) { return path.size() > 1; });
  if (own == place.paths.end()) return;
  const auto dir = open_at(place.layout.unified.get(), own->substr(1), O_PATH | O_DIRECTORY);
  if (dir && cgroup_keyed(cgroup_text(dir->get(), "cgroup.events"), "populated") == 1) read_pressure(dir->get(), stats);
}

void read_v1(const Place& place, CgroupUsage& stats) {
  constexpr std::uint64_t kNanosecondsPerTick = 10'000'000;  // USER_HZ is 100 on every architecture of ours
  if (const auto dir = place.open("cpuacct"); dir.valid()) {
    stats.cpu_usage_ns = cgroup_number(dir.get(), "cpuacct.usage");
    const std::string split_times = cgroup_text(dir.get(), "cpuacct.stat");
    stats.cpu_user_ns = cgroup_keyed(split_times, "user") * kNanosecondsPerTick;
    stats.cpu_system_ns = cgroup_keyed(split_times, "system") * kNanosecondsPerTick;
  }
  if (const auto dir = place.open("cpu"); dir.valid()) {
    const std::string cpu = cgroup_text(dir.get(), "cpu.stat");
    stats.cpu_throttled_periods = cgroup_keyed(cpu, "nr_throttled");
    stats.cpu_throttled_ns = cgroup_keyed(cpu, "throttled_time");
  }
  if (const auto dir = place.open("memory"); dir.valid()) {
    stats.memory_usage_bytes = cgroup_number(dir.get(), "memory.usage_in_bytes");
    stats.memory_limit_bytes = cgroup_number(dir.get(), "memory.limit_in_bytes");
    const std::string memory = cgroup_text(dir.get(), "memory.stat");
    stats.memory_working_set_bytes = less(stats.memory_usage_bytes, cgroup_keyed(memory, "total_inactive_file"));
    stats.memory_rss_bytes = cgroup_keyed(memory, "total_rss");
    stats.memory_page_faults = cgroup_keyed(memory, "total_pgfault");
    stats.memory_major_page_faults = cgroup_keyed(memory, "total_pgmajfault");
    stats.swap_usage_bytes = cgroup_keyed(memory, "total_swap");
    // Of both together; with no limit for memory it is none for swap alone.
    const auto both = cgroup_number(dir.get(), "memory.memsw.limit_in_bytes");
    if (both != 0 && stats.memory_limit_bytes != 0) stats.swap_limit_bytes = less(both, stats.memory_limit_bytes);
  }
  read_hybrid_pressure(place, stats);
}

void read_v2(const Place& place, CgroupUsage& stats) {
  constexpr std::uint64_t kNanosecondsPerMicrosecond = 1000;
  const auto dir = place.open("memory");
  if (!dir.valid()) return;
  const std::string cpu = cgroup_text(dir.get(), "cpu.stat");
  stats.cpu_usage_ns = cgroup_keyed(cpu, "usage_usec") * kNanosecondsPerMicrosecond;
  stats.cpu_user_ns = cgroup_keyed(cpu, "user_usec") * kNanosecondsPerMicrosecond;
  stats.cpu_system_ns = cgroup_keyed(cpu, "system_usec") * kNanosecondsPerMicrosecond;
  stats.cpu_throttled_periods = cgroup_keyed(cpu, "nr_throttled");
  stats.cpu_throttled_ns = cgroup_keyed(cpu, "throttled_usec") * kNanosecondsPerMicrosecond;
  stats.memory_usage_bytes = cgroup_number(dir.get(), "memory.current");
  stats.memory_limit_bytes = cgroup_number(dir.get(), "memory.max");
  const std::string memory = cgroup_text(dir.get(), "memory.stat");
  stats.memory_working_set_bytes = less(stats.memory_usage_bytes, cgroup_keyed(memory, "inactive_file"));
  stats.memory_rss_bytes = cgroup_keyed(memory, "anon");
  stats.memory_page_faults = cgroup_keyed(memory, "pgfault");
  stats.memory_major_page_faults = cgroup_keyed(memory, "pgmajfault");
  stats.swap_usage_bytes = cgroup_number(dir.get(), "memory.swap.current");
  const std::string swap_max = cgroup_text(dir.get(), "memory.swap.max");
  // No number, as "max" is none: no limit.
  stats.swap_limit_bytes = parse_number<std::uint64_t>(trim(swap_max));
  read_pressure(dir.get(), stats);
}

}  // namespace

std::uint64_t cgroup_number(int dir_fd, const char* file) {
  const auto text = read_file_at(dir_fd, file, kFileLimit);
  if (!text) return 0;
  const auto value = parse_number<std::uint64_t>(trim(*text));
  return value && *value < kNoLimit ? *value : 0;
}

std::uint64_t cgroup_keyed(std::string_view text, std::string_view key) {
  for (const auto line : split(text, '\n')) {
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ' ') {
      return parse_number<std::uint64_t>(trim(line.substr(key.size() + 1))).value_or(0);
    }
  }
  return 0;
}

std::string cgroup_text(int dir_fd, const char* file) {
  auto text = read_file_at(dir_fd, file, kFileLimit);
  return text ? std::move(*text) : std::string();
}

std::optional<std::uint64_t> cgroup_oom_count(const CgroupLayout& layout, const std::vector<std::string>& paths) {
  const UniqueFd dir = Place{layout, paths}.open("memory");
  if (!dir.valid()) return std::nullopt;
  const std::string text = cgroup_text(dir.get(), layout.v2 ? "memory.events" : "memory.oom_control");
  if (text.empty()) return std::nullopt;  // removed since
  return cgroup_keyed(text, "oom_kill");
}

std::uint64_t cgroup_oom_kills(const CgroupLayout& layout, const std::vector<std::string>& paths) {
  return cgroup_oom_count(layout, paths).value_or(0);
}

CgroupUsage cgroup_usage(const CgroupLayout& layout, const std::vector<std::string>& paths) {
  CgroupUsage usage;
  usage.timestamp_ns = wall_now_ns();
  const Place place{layout, paths};
  if (layout.v2) {
    read_v2(place, usage);
  } else {
    read_v1(place, usage);
  }
  if (const UniqueFd dir = place.open("pids"); dir.valid()) {
    usage.pids = cgroup_number(dir.get(), "pids.current");
    usage.pids_limit = cgroup_number(dir.get(), "pids.max");
  }
  usage.oom_kills = cgroup_oom_kills(layout, paths);
  return usage;
}

}  // namespace berth::os
