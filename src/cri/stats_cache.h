#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/thread_annotations.h"
#include "berth/shim/v1/shim.pb.h"
#include "cri/cpu_rate.h"
#include "cri/records.h"
#include "image/store.h"
#include "os/cgroup_usage.h"

namespace berth::cri {

/// The newest usage figures of each container, for the read path. Thread-safe; no lock is held over anything slow.
class StatsCache final {
 public:
  void put(const std::string& id, const ::berth::shim::v1::ContainerStatsResponse& sample) BERTH_EXCLUDES(mutex_);
  void put_disk(const std::string& id, const image::FsUsage& usage) BERTH_EXCLUDES(mutex_);
  /// For a container that has ended: the last figure.
  void put_log_dropped(const std::string& id, std::uint64_t bytes) BERTH_EXCLUDES(mutex_);
  void erase(const std::string& id) BERTH_EXCLUDES(mutex_);

  /// Whose figures are held, among them those of containers that went while their sample was on its way.
  [[nodiscard]] std::vector<std::string> ids() const BERTH_EXCLUDES(mutex_);

  [[nodiscard]] bool sampled(const std::string& id) const BERTH_EXCLUDES(mutex_);
  /// When the writable layer was measured, 0: never.
  [[nodiscard]] std::int64_t disk_time(const std::string& id) const BERTH_EXCLUDES(mutex_);
  /// Bytes of output that could not be written to the log, as far as known.
  [[nodiscard]] std::uint64_t log_dropped(const std::string& id) const BERTH_EXCLUDES(mutex_);
  /// What is known, as the CRI has it: attributes always, figures as far as there are any. `disk_root`: names the file
  /// system of writable layers. `out`: empty.
  void fill(const ContainerRecord& record, const std::string& disk_root, pb::ContainerStats& out) const
      BERTH_EXCLUDES(mutex_);
  /// The same without the attributes.
  void fill_figures(const ContainerRecord& record, const std::string& disk_root, pb::ContainerStats& out) const
      BERTH_EXCLUDES(mutex_);
  [[nodiscard]] pb::ContainerStats get(const ContainerRecord& record, const std::string& disk_root) const {
    pb::ContainerStats stats;
    fill(record, disk_root, stats);
    return stats;
  }

 private:
  struct Entry {
    std::optional<os::CgroupUsage> newest;
    CpuRate rate;
    std::optional<image::FsUsage> disk;
    std::uint64_t log_dropped = 0;
  };
  mutable Mutex mutex_;
  std::map<std::string, Entry, std::less<>> entries_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::cri
