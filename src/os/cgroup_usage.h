#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "os/cgroup.h"
#include "os/pressure.h"

namespace berth::os {

/// One reading of a cgroup. Units in the names; 0 where the controller is absent.
struct CgroupUsage {
  std::int64_t timestamp_ns = 0;
  std::uint64_t cpu_usage_ns = 0;
  std::uint64_t cpu_user_ns = 0;
  std::uint64_t cpu_system_ns = 0;
  std::uint64_t cpu_throttled_periods = 0;
  std::uint64_t cpu_throttled_ns = 0;
  std::uint64_t memory_usage_bytes = 0;
  std::uint64_t memory_working_set_bytes = 0;  ///< usage less inactive file pages
  std::uint64_t memory_rss_bytes = 0;
  std::uint64_t memory_page_faults = 0;
  std::uint64_t memory_major_page_faults = 0;
  std::uint64_t memory_limit_bytes = 0;  ///< 0: no limit
  std::uint64_t swap_usage_bytes = 0;
  std::optional<std::uint64_t> swap_limit_bytes{};  ///< 0: none may be used; absent: no limit, or not accounted
  std::uint64_t pids = 0;
  std::uint64_t pids_limit = 0;  ///< 0: no limit
  std::uint64_t oom_kills = 0;
  /// Absent where the kernel does not count it for this cgroup: without PSI, and under v1, which has none, unless its
  /// processes are in the v2 hierarchy beside it, too.
  std::optional<Pressure> cpu_pressure{};
  std::optional<Pressure> memory_pressure{};
  std::optional<Pressure> io_pressure{};
};

/// `paths`: where it is in each hierarchy, in the order of `layout`; "" where it is not. What is gone reads as 0.
/// Blocks on the kernel alone.
[[nodiscard]] CgroupUsage cgroup_usage(const CgroupLayout& layout, const std::vector<std::string>& paths);
/// Its out-of-memory kills alone; absent when it is gone, or memory is not controlled.
[[nodiscard]] std::optional<std::uint64_t> cgroup_oom_count(const CgroupLayout& layout,
                                                            const std::vector<std::string>& paths);
/// The same; 0 when it is gone.
[[nodiscard]] std::uint64_t cgroup_oom_kills(const CgroupLayout& layout, const std::vector<std::string>& paths);

// The forms of the kernel's files, for those who read others of them. 0 is "not there".

/// The file as one number; 0 also for "max" and for what v1 says when there is no limit.
[[nodiscard]] std::uint64_t cgroup_number(int dir_fd, const char* file);
/// The value of the line "key value" of a file's text.
[[nodiscard]] std::uint64_t cgroup_keyed(std::string_view text, std::string_view key);
/// The file, "" when it cannot be read.
[[nodiscard]] std::string cgroup_text(int dir_fd, const char* file);

}  // namespace berth::os
