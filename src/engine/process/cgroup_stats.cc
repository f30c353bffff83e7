#include <fcntl.h>

#include <algorithm>
#include <ctime>

#include "base/clock.h"
#include "base/strings.h"
#include "engine/process/cgroup.h"
#include "os/file.h"

namespace berth::engine::process {

namespace {

constexpr std::size_t kFileLimit = 256U << 10;
// v1 reports "no limit" as the largest page-aligned number; nothing real is above this.
constexpr std::uint64_t kNoLimit = 1ULL << 62U;

/// The file as one number; 0 when it is absent or no number ("max").
std::uint64_t number(int dir_fd, const char* file) {
  const auto text = os::read_file_at(dir_fd, file, kFileLimit);
  if (!text) return 0;
  const auto value = parse_number<std::uint64_t>(trim(*text));
  return value && *value < kNoLimit ? *value : 0;
}

/// The value of the line "key value"; 0 when it is not there.
std::uint64_t keyed(std::string_view text, std::string_view key) {
  for (const auto line : split(text, '\n')) {
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ' ') {
      return parse_number<std::uint64_t>(trim(line.substr(key.size() + 1))).value_or(0);
    }
  }
  return 0;
}

std::string text_of(int dir_fd, const char* file) {
  auto text = os::read_file_at(dir_fd, file, kFileLimit);
  return text ? std::move(*text) : std::string();
}

/// Whether a v1 limit stood in the way: counted, or seen by the highest usage, since kernels do not count all of them.
bool reached_v1(int dir_fd, const std::string& prefix) {
  constexpr std::uint64_t kCharge = 256U << 10;  // what the kernel asks for at once
  const std::uint64_t limit = number(dir_fd, (prefix + "limit_in_bytes").c_str());
  if (limit == 0) return false;
  if (number(dir_fd, (prefix + "failcnt").c_str()) > 0) return true;
  return number(dir_fd, (prefix + "max_usage_in_bytes").c_str()) + kCharge >= limit;
}

std::uint64_t less(std::uint64_t a, std::uint64_t b) {
  return a > b ? a - b : 0;
}

}  // namespace

void Cgroup::stats_v1(Stats& stats) const {
  constexpr std::uint64_t kNanosecondsPerTick = 10'000'000;  // USER_HZ is 100 on every architecture of ours
  if (const auto dir = open_dir("cpuacct"); dir && dir->valid()) {
    stats.cpu_usage_ns = number(dir->get(), "cpuacct.usage");
    const std::string split_times = text_of(dir->get(), "cpuacct.stat");
    stats.cpu_user_ns = keyed(split_times, "user") * kNanosecondsPerTick;
    stats.cpu_system_ns = keyed(split_times, "system") * kNanosecondsPerTick;
  }
  if (const auto dir = open_dir("cpu"); dir && dir->valid()) {
    const std::string cpu = text_of(dir->get(), "cpu.stat");
    stats.cpu_throttled_periods = keyed(cpu, "nr_throttled");
    stats.cpu_throttled_ns = keyed(cpu, "throttled_time");
  }
  if (const auto dir = open_dir("memory"); dir && dir->valid()) {
    stats.memory_usage_bytes = number(dir->get(), "memory.usage_in_bytes");
    stats.memory_limit_bytes = number(dir->get(), "memory.limit_in_bytes");
    const std::string memory = text_of(dir->get(), "memory.stat");
    stats.memory_working_set_bytes = less(stats.memory_usage_bytes, keyed(memory, "total_inactive_file"));
    stats.memory_rss_bytes = keyed(memory, "total_rss");
    stats.memory_page_faults = keyed(memory, "total_pgfault");
    stats.memory_major_page_faults = keyed(memory, "total_pgmajfault");
    stats.swap_usage_bytes = keyed(memory, "total_swap");
  }
}

void Cgroup::stats_v2(Stats& stats) const {
  constexpr std::uint64_t kNanosecondsPerMicrosecond = 1000;
  const auto dir = open_dir("memory");
  if (!dir || !dir->valid()) return;
  const std::string cpu = text_of(dir->get(), "cpu.stat");
  stats.cpu_usage_ns = keyed(cpu, "usage_usec") * kNanosecondsPerMicrosecond;
  stats.cpu_user_ns = keyed(cpu, "user_usec") * kNanosecondsPerMicrosecond;
  stats.cpu_system_ns = keyed(cpu, "system_usec") * kNanosecondsPerMicrosecond;
  stats.cpu_throttled_periods = keyed(cpu, "nr_throttled");
  stats.cpu_throttled_ns = keyed(cpu, "throttled_usec") * kNanosecondsPerMicrosecond;
  stats.memory_usage_bytes = number(dir->get(), "memory.current");
  stats.memory_limit_bytes = number(dir->get(), "memory.max");
  const std::string memory = text_of(dir->get(), "memory.stat");
  stats.memory_working_set_bytes = less(stats.memory_usage_bytes, keyed(memory, "inactive_file"));
  stats.memory_rss_bytes = keyed(memory, "anon");
  stats.memory_page_faults = keyed(memory, "pgfault");
  stats.memory_major_page_faults = keyed(memory, "pgmajfault");
  stats.swap_usage_bytes = number(dir->get(), "memory.swap.current");
}

Result<Stats> Cgroup::stats() const {
  Stats stats;
  stats.timestamp_ns = wall_now_ns();
  if (paths_.empty()) return stats;
  if (v2()) {
    stats_v2(stats);
  } else {
    stats_v1(stats);
  }
  const auto dir = open_dir("pids");
  if (!dir) return fail(dir.error().in("stats"));
  if (dir->valid()) {
    stats.pids = number(dir->get(), "pids.current");
    stats.pids_limit = number(dir->get(), "pids.max");
  }
  BERTH_ASSIGN(stats.oom_kills, oom_kills(), "stats");
  return stats;
}

Result<std::uint64_t> Cgroup::oom_kills() const {
  BERTH_ASSIGN(const UniqueFd dir, open_dir("memory"), "out-of-memory kills");
  if (!dir) return 0;
  return keyed(text_of(dir.get(), v2() ? "memory.events" : "memory.oom_control"), "oom_kill");
}

std::string Cgroup::oom_cause() const {
  const auto* const hierarchy = layout_ == nullptr ? nullptr : layout_->find("memory");
  if (hierarchy == nullptr || paths_.empty()) return {};
  const std::string own = paths_[static_cast<std::size_t>(hierarchy - layout_->hierarchies.data())];
  for (std::string path = own; path.size() > 1; path.resize(std::max<std::size_t>(path.rfind('/'), 1))) {
    const auto dir = os::open_at(hierarchy->root.get(), path.substr(1), O_PATH | O_DIRECTORY);
    if (!dir) continue;
    const std::uint64_t limit = number(dir->get(), v2() ? "memory.max" : "memory.limit_in_bytes");
    // Of this cgroup itself and not of one below.
    const bool reached = v2() ? keyed(text_of(dir->get(), "memory.events.local"), "oom") > 0
                              : reached_v1(dir->get(), "memory.") || reached_v1(dir->get(), "memory.memsw.");
    if (!reached || limit == 0) continue;
    const std::string bytes = " of " + std::to_string(limit) + " bytes was reached";
    if (path == own) return "the container's memory limit" + bytes;
    return "the memory limit of the cgroup " + path + " above it" + bytes;
  }
  return "the machine was out of memory";
}

}  // namespace berth::engine::process
