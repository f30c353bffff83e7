#pragma once
#include <string>

#include "cri/items.h"
#include "cri/pod_stats.h"
#include "cri/stats_cache.h"

namespace berth::cri {

/// Makes the bytes of pb::ContainerStats and pb::PodSandboxStats, with messages of its own that it uses again. Not
/// thread-safe; copies share nothing.
class StatsWriter final {
 public:
  /// Both are borrowed. `disk_root`: as for StatsCache::fill().
  StatsWriter(const StatsCache& containers, const PodStatsCache& pods, std::string disk_root)
      : containers_(&containers), pods_(&pods), disk_root_(std::move(disk_root)) {}

  void append(std::string& out, const ContainerRecord& record);
  /// `running`: its containers that are told.
  void append(std::string& out, const SandboxRecord& record, const std::vector<ContainerPtr>& running);

 private:
  /// ContainerAttributes or PodSandboxAttributes, into bytes_.
  template <class Attributes, class Record>
  void make_attributes(Attributes& attributes, const Record& record);

  const StatsCache* containers_;
  const PodStatsCache* pods_;
  std::string disk_root_;
  pb::ContainerAttributes container_attributes_;
  pb::PodSandboxAttributes pod_attributes_;
  pb::ContainerStats figures_;
  pb::LinuxPodSandboxStats pod_figures_;
  std::string bytes_;
  std::string entry_;
  std::string container_;
  std::string linux_;
};

}  // namespace berth::cri
