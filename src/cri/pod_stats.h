#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_annotations.h"
#include "cri/cpu_rate.h"
#include "cri/records.h"
#include "os/cgroup_usage.h"

namespace berth::cri {

/// What one network interface has carried, as /proc/PID/net/dev tells. Source: proc_pid_net(5).
struct LinkCounters {
  std::string name;
  std::uint64_t rx_bytes = 0;
  std::uint64_t rx_errors = 0;
  std::uint64_t tx_bytes = 0;
  std::uint64_t tx_errors = 0;
  bool operator==(const LinkCounters&) const = default;
};
/// The file's text; without the loopback, lines of another form are passed over.
[[nodiscard]] std::vector<LinkCounters> parse_net_dev(std::string_view text);

/// The newest usage figures of each pod, for the read path. Thread-safe; no lock is held over anything slow.
class PodStatsCache final {
 public:
  void put(const std::string& id, const os::CgroupUsage& usage, std::vector<LinkCounters> links) BERTH_EXCLUDES(mutex_);
  void erase(const std::string& id) BERTH_EXCLUDES(mutex_);
  [[nodiscard]] std::vector<std::string> ids() const BERTH_EXCLUDES(mutex_);
  [[nodiscard]] bool sampled(const std::string& id) const BERTH_EXCLUDES(mutex_);
  /// What is known, as the CRI has it, without the containers: attributes always, figures as far as there are any.
  /// `out`: empty.
  void fill(const SandboxRecord& record, pb::PodSandboxStats& out) const BERTH_EXCLUDES(mutex_);
  /// The figures alone; false when there are none. `out`: empty.
  bool fill_figures(const std::string& id, pb::LinuxPodSandboxStats& out) const BERTH_EXCLUDES(mutex_);
  [[nodiscard]] pb::PodSandboxStats get(const SandboxRecord& record) const {
    pb::PodSandboxStats stats;
    fill(record, stats);
    return stats;
  }

 private:
  struct Entry {
    os::CgroupUsage usage;
    std::vector<LinkCounters> links;
    CpuRate rate;
  };
  mutable Mutex mutex_;
  std::map<std::string, Entry, std::less<>> entries_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::cri
