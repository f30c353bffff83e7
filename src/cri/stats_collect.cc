#include <algorithm>
#include <chrono>

#include "base/log.h"
#include "cri/service_impl.h"
#include "cri/stats_items.h"
#include "image/store.h"

namespace berth::cri {

namespace {

namespace bs = ::berth::shim::v1;
using std::chrono::milliseconds;

constexpr milliseconds kSampleTime{5000};
constexpr milliseconds kOnDemandTime{2000};
// A walk over a writable layer costs disk reads: once a minute each is what the kubelet's own du did.
constexpr std::int64_t kDiskAgeNs = 60'000'000'000;
// What could not be given back is tried again every so many rounds, once a minute if nobody has configured the period.
constexpr unsigned kRetryRounds = 6;

bool matches(const ContainerRecord& record, const pb::ContainerStatsFilter& filter) {
  if (!filter.id().empty() && !record.id.starts_with(filter.id())) return false;
  if (!filter.pod_sandbox_id().empty() && !record.sandbox_id.starts_with(filter.pod_sandbox_id())) return false;
  return std::ranges::all_of(filter.label_selector(), [&](const auto& wanted) {
    const auto found = record.config.labels().find(wanted.first);
    return found != record.config.labels().end() && found->second == wanted.second;
  });
}

}  // namespace

/// Asks for figures without waiting for them.
void ServiceImpl::sample_now(const ContainerRecord& record) {
  const auto link = link_of(record.sandbox_id);
  if (!link) return;
  (*link)->stats_async(record.id, kSampleTime, [this, id = record.id](Result<bs::ContainerStatsResponse> sample) {
    if (sample) stats_.put(id, *sample);
  });
}

/// One round: all shims are asked at once, the answers come as they come. A shim that hangs costs nothing but its own
/// figures.
void ServiceImpl::collect_stats() {
  // An answer that came after its container's removal has nobody else to take it away.
  for (const auto& id : stats_.ids()) {
    if (!registry_->container(id)) stats_.erase(id);
  }
  for (const auto& record : registry_->containers()) {
    if (record->phase == ContainerPhase::kRunning) sample_now(*record);
  }
  sample_pods();
  if (measuring_.exchange(true)) return;
  workers_.post([this] {
    measure_disks();
    measuring_ = false;
  });
}

void ServiceImpl::measure_disks() {
  const auto now = wall_now_ns();
  for (const auto& record : registry_->containers()) {
    if (ending()) return;
    if (!visible(*record) || record->phase == ContainerPhase::kRemoving) continue;
    if (now - stats_.disk_time(record->id) < kDiskAgeNs) continue;
    const auto usage = options_.images->rootfs_usage(record->id);
    if (usage && registry_->container(record->id)) stats_.put_disk(record->id, *usage);
  }
}

/// What the built-in network keeps for all pods goes with the last of them: an idle node has no bridge and no rule of
/// ours.
void ServiceImpl::drop_unused_network() {
  // Before the act: a pod that comes meanwhile takes the flag back when its network stands.
  network_dropped_ = true;
  auto dropped = options_.network->teardown();
  if (!dropped) network_dropped_ = false;
  if (dropped || dropped.error().code() == Code::kPrecondition) return;  // a pod has come meanwhile, or its end is near
  log_warn("the unused network stays", {{"err", dropped.error().text()}});
}

void ServiceImpl::stats_loop() {
  const auto period = std::chrono::seconds(std::max(1U, options_.stats_period_s));
  unsigned rounds_without_pods = 0;
  unsigned rounds_until_retry = kRetryRounds;
  MutexLock lock(stats_mutex_);
  while (!closing_) {
    stats_wake_.wait_for(lock, period);
    if (closing_) break;
    lock.unlock();
    collect_stats();
    // Not at once: a node that starts pods one after another would make and drop the bridge for each.
    rounds_without_pods = registry_->sandboxes().empty() ? rounds_without_pods + 1 : 0;
    if (rounds_without_pods >= 2 && !network_dropped_) workers_.post([this] { drop_unused_network(); });
    if (--rounds_until_retry == 0) {
      rounds_until_retry = kRetryRounds;
      workers_.post([this] {
        stream_server_->reap();
        // A runtime that was installed since, or another version.
        features_.learn(handlers_.table());
        retry_networks();
        retry_detached();
      });
    }
    lock.lock();
  }
}

Result<pb::ContainerStatsResponse> ServiceImpl::container_stats(const Call& /*call*/,
                                                                const pb::ContainerStatsRequest& request) {
  BERTH_ASSIGN(const auto record, shown_container(request.container_id()), "ContainerStats");
  if (record->phase == ContainerPhase::kRunning && !stats_.sampled(record->id)) {
    // Only for one that no round has met yet: a running container is never shown with no CPU time at all.
    if (const auto link = link_of(record->sandbox_id)) {
      if (const auto sample = (*link)->stats(record->id, kOnDemandTime)) stats_.put(record->id, *sample);
    }
  }
  pb::ContainerStatsResponse answer;
  stats_.fill(*record, options_.root_dir, *answer.mutable_stats());
  return answer;
}

Items ServiceImpl::container_stats_items(const pb::ContainerStatsFilter& filter) {
  return items_of(registry_->containers(), [filter, writer = StatsWriter(stats_, pod_stats_, options_.root_dir)](
                                               std::string& out, const ContainerRecord& record) mutable {
    if (record.phase != ContainerPhase::kRunning || !matches(record, filter)) return false;
    writer.append(out, record);
    return true;
  });
}

}  // namespace berth::cri
