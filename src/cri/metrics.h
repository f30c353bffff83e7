#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "cri/records.h"

/// ListPodSandboxMetrics: the figures of pods and containers under the names that cAdvisor gave them, so that
/// dashboards and alerts made for it go on. Pure functions.
namespace berth::cri {

/// Every metric there can be, with the keys of its labels.
[[nodiscard]] pb::ListMetricDescriptorsResponse metric_descriptors();

/// What is in `stats` of the pod and of its containers, as far as it is known; of attributes the containers' ids alone
/// are read.
struct MetricSources {
  const SandboxRecord& sandbox;
  const pb::PodSandboxStats& stats;
  /// The record of a container in `stats`; nullptr when it is gone.
  std::function<ContainerPtr(const std::string& id)> container;
  /// Bytes of output that could not be written to the container's log.
  std::function<std::uint64_t(const std::string& id)> log_dropped;
};
/// The bytes of a pb::PodSandboxMetrics: a message for each of its metrics would be most of the work.
[[nodiscard]] std::string pod_metrics(const MetricSources& sources);

}  // namespace berth::cri
