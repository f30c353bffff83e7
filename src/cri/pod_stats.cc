#include "cri/pod_stats.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/strings.h"
#include "cri/metrics.h"
#include "cri/service_impl.h"
#include "cri/stats_items.h"
#include "cri/usage.h"
#include "os/file.h"
#include "os/pidfd.h"

namespace berth::cri {

namespace {

constexpr std::size_t kMaxNetDev = 1U << 20;
// What every runtime calls the interface with the default route. Source: CNI conventions, CNI_IFNAME.
constexpr std::string_view kDefaultLink = "eth0";

void fill_link(pb::NetworkInterfaceUsage& out, const LinkCounters& link) {
  out.set_name(link.name);
  out.mutable_rx_bytes()->set_value(link.rx_bytes);
  out.mutable_rx_errors()->set_value(link.rx_errors);
  out.mutable_tx_bytes()->set_value(link.tx_bytes);
  out.mutable_tx_errors()->set_value(link.tx_errors);
}

bool matches(const SandboxRecord& record, const pb::PodSandboxStatsFilter& filter) {
  if (!filter.id().empty() && !record.id.starts_with(filter.id())) return false;
  return std::ranges::all_of(filter.label_selector(), [&](const auto& wanted) {
    const auto found = record.config.labels().find(wanted.first);
    return found != record.config.labels().end() && found->second == wanted.second;
  });
}

}  // namespace

std::vector<LinkCounters> parse_net_dev(std::string_view text) {
  // "  eth0: bytes packets errs drop fifo frame compressed multicast bytes packets errs ...": received, then sent.
  constexpr std::size_t kSent = 8;
  constexpr std::size_t kErrors = 2;
  std::vector<LinkCounters> links;
  for (const auto line : split(text, '\n')) {
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    LinkCounters link{.name = std::string(trim(line.substr(0, colon)))};
    std::vector<std::uint64_t> numbers;
    for (const auto word : split(line.substr(colon + 1), ' ')) {
      if (const auto number = parse_number<std::uint64_t>(word)) numbers.push_back(*number);
    }
    if (link.name.empty() || link.name == "lo" || numbers.size() <= kSent + kErrors) continue;
    link.rx_bytes = numbers[0];
    link.rx_errors = numbers[kErrors];
    link.tx_bytes = numbers[kSent];
    link.tx_errors = numbers[kSent + kErrors];
    links.push_back(std::move(link));
  }
  return links;
}

void PodStatsCache::put(const std::string& id, const os::CgroupUsage& usage, std::vector<LinkCounters> links) {
  const MutexLock lock(mutex_);
  auto& entry = entries_[id];
  if (usage.timestamp_ns < entry.usage.timestamp_ns) return;
  entry.rate.add(usage.timestamp_ns, usage.cpu_usage_ns);
  entry.usage = usage;
  entry.links = std::move(links);
}

void PodStatsCache::erase(const std::string& id) {
  const MutexLock lock(mutex_);
  entries_.erase(id);
}

std::vector<std::string> PodStatsCache::ids() const {
  const MutexLock lock(mutex_);
  std::vector<std::string> all;
  all.reserve(entries_.size());
  for (const auto& [id, entry] : entries_) all.push_back(id);
  return all;
}

bool PodStatsCache::sampled(const std::string& id) const {
  const MutexLock lock(mutex_);
  return entries_.contains(id);
}

void PodStatsCache::fill(const SandboxRecord& record, pb::PodSandboxStats& stats) const {
  auto& attributes = *stats.mutable_attributes();
  attributes.set_id(record.id);
  *attributes.mutable_metadata() = record.config.metadata();
  *attributes.mutable_labels() = record.config.labels();
  *attributes.mutable_annotations() = record.config.annotations();
  if (sampled(record.id)) fill_figures(record.id, *stats.mutable_linux());
}

bool PodStatsCache::fill_figures(const std::string& id, pb::LinuxPodSandboxStats& out) const {
  std::optional<Entry> entry;
  {
    const MutexLock lock(mutex_);
    if (const auto found = entries_.find(id); found != entries_.end()) entry = found->second;
  }
  if (!entry) return false;
  fill_cpu(*out.mutable_cpu(), entry->usage);
  if (entry->rate.known()) out.mutable_cpu()->mutable_usage_nano_cores()->set_value(entry->rate.nano_cores());
  fill_memory(*out.mutable_memory(), entry->usage);
  if (entry->usage.io_pressure) fill_io(*out.mutable_io(), entry->usage);
  out.mutable_process()->set_timestamp(entry->usage.timestamp_ns);
  out.mutable_process()->mutable_process_count()->set_value(entry->usage.pids);
  if (entry->links.empty()) return true;
  out.mutable_network()->set_timestamp(entry->usage.timestamp_ns);
  for (const auto& link : entry->links) {
    fill_link(link.name == kDefaultLink ? *out.mutable_network()->mutable_default_interface()
                                        : *out.mutable_network()->add_interfaces(),
              link);
  }
  return true;
}

void ServiceImpl::sample_pod(const SandboxRecord& record) {
  const std::vector<std::string> paths(cgroups_.hierarchies.size(), record.cgroup_parent);
  std::vector<LinkCounters> links;
  // The shim lives in the pod's network. In the node's own nothing is the pod's.
  if (const auto pod = record.host_network ? nullptr : find_pod(record.id)) {
    const auto pidfd = pod->pidfd();
    const auto text = os::read_file("/proc/" + std::to_string(pod->shim_pid()) + "/net/dev", kMaxNetDev);
    // Only if that process was still the shim after the look was it the pod's network.
    if (text && pidfd && os::pidfd_signal(pidfd.get(), 0)) links = parse_net_dev(*text);
  }
  pod_stats_.put(record.id, os::cgroup_usage(cgroups_, paths), std::move(links));
}

void ServiceImpl::sample_pods() {
  for (const auto& id : pod_stats_.ids()) {
    const auto record = registry_->sandbox(id);
    if (!record || record->state != SandboxState::kReady) pod_stats_.erase(id);
  }
  for (const auto& record : registry_->sandboxes()) {
    if (ending()) return;
    if (record->state == SandboxState::kReady) sample_pod(*record);
  }
}

std::vector<ContainerPtr> ServiceImpl::running_in(const SandboxRecord& record) const {
  auto containers = registry_->containers_of(record.id);
  std::erase_if(containers, [](const ContainerPtr& one) { return one->phase != ContainerPhase::kRunning; });
  return containers;
}

pb::PodSandboxStats ServiceImpl::pod_figures(const SandboxRecord& record) const {
  pb::PodSandboxStats stats = pod_stats_.get(record);
  for (const auto& container : running_in(record)) {
    stats_.fill(*container, options_.root_dir, *stats.mutable_linux()->add_containers());
  }
  return stats;
}

Result<pb::PodSandboxStatsResponse> ServiceImpl::pod_sandbox_stats(const Call& /*call*/,
                                                                   const pb::PodSandboxStatsRequest& request) {
  BERTH_ASSIGN(const auto record, shown_sandbox(request.pod_sandbox_id()), "PodSandboxStats");
  if (record->state == SandboxState::kReady && !pod_stats_.sampled(record->id)) sample_pod(*record);
  pb::PodSandboxStatsResponse answer;
  *answer.mutable_stats() = pod_figures(*record);
  return answer;
}

Items ServiceImpl::pod_sandbox_stats_items(const pb::PodSandboxStatsFilter& filter) {
  return items_of(registry_->sandboxes(), [this, filter, writer = StatsWriter(stats_, pod_stats_, options_.root_dir)](
                                              std::string& out, const SandboxRecord& record) mutable {
    if (record.state != SandboxState::kReady || !matches(record, filter)) return false;
    writer.append(out, record, running_in(record));
    return true;
  });
}

Result<pb::ListMetricDescriptorsResponse> ServiceImpl::list_metric_descriptors(
    const Call& /*call*/, const pb::ListMetricDescriptorsRequest& /*request*/) {
  return metric_descriptors();
}

Items ServiceImpl::pod_sandbox_metrics_items() {
  return items_of(registry_->sandboxes(), [this](std::string& out, const SandboxRecord& record) {
    if (record.state != SandboxState::kReady) return false;
    pb::PodSandboxStats stats;
    pod_stats_.fill_figures(record.id, *stats.mutable_linux());
    for (const auto& container : running_in(record)) {
      auto& one = *stats.mutable_linux()->add_containers();
      one.mutable_attributes()->set_id(container->id);
      stats_.fill_figures(*container, options_.root_dir, one);
    }
    out += pod_metrics({record, stats, [this](const std::string& id) { return registry_->container(id); },
                        [this](const std::string& id) { return stats_.log_dropped(id); }});
    return true;
  });
}

}  // namespace berth::cri
