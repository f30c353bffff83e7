#include "cri/stats_cache.h"

#include <algorithm>

#include "cri/usage.h"

namespace berth::cri {

namespace {

using Sample = ::berth::shim::v1::ContainerStatsResponse;

void fill_attributes(pb::ContainerAttributes& attributes, const ContainerRecord& record) {
  attributes.set_id(record.id);
  *attributes.mutable_metadata() = record.config.metadata();
  *attributes.mutable_labels() = record.config.labels();
  *attributes.mutable_annotations() = record.config.annotations();
}

}  // namespace

void StatsCache::put(const std::string& id, const Sample& sample) {
  MutexLock lock(mutex_);
  auto& entry = entries_[id];
  entry.log_dropped = std::max(entry.log_dropped, sample.log_bytes_dropped());
  if (entry.newest && sample.timestamp_ns() < entry.newest->timestamp_ns) return;
  entry.rate.add(sample.timestamp_ns(), sample.cpu_usage_ns());
  entry.newest = to_usage(sample);
}

void StatsCache::put_disk(const std::string& id, const image::FsUsage& usage) {
  MutexLock lock(mutex_);
  entries_[id].disk = usage;
}

void StatsCache::put_log_dropped(const std::string& id, std::uint64_t bytes) {
  MutexLock lock(mutex_);
  entries_[id].log_dropped = bytes;
}

void StatsCache::erase(const std::string& id) {
  MutexLock lock(mutex_);
  entries_.erase(id);
}

std::vector<std::string> StatsCache::ids() const {
  MutexLock lock(mutex_);
  std::vector<std::string> all;
  all.reserve(entries_.size());
  for (const auto& [id, entry] : entries_) all.push_back(id);
  return all;
}

bool StatsCache::sampled(const std::string& id) const {
  MutexLock lock(mutex_);
  const auto found = entries_.find(id);
  return found != entries_.end() && found->second.newest.has_value();
}

std::int64_t StatsCache::disk_time(const std::string& id) const {
  MutexLock lock(mutex_);
  const auto found = entries_.find(id);
  return found != entries_.end() && found->second.disk ? found->second.disk->timestamp_ns : 0;
}

std::uint64_t StatsCache::log_dropped(const std::string& id) const {
  MutexLock lock(mutex_);
  const auto found = entries_.find(id);
  return found == entries_.end() ? 0 : found->second.log_dropped;
}

void StatsCache::fill(const ContainerRecord& record, const std::string& disk_root, pb::ContainerStats& stats) const {
  fill_attributes(*stats.mutable_attributes(), record);
  fill_figures(record, disk_root, stats);
}

void StatsCache::fill_figures(const ContainerRecord& record, const std::string& disk_root,
                              pb::ContainerStats& stats) const {
  Entry entry;
  {
    MutexLock lock(mutex_);
    if (const auto found = entries_.find(record.id); found != entries_.end()) entry = found->second;
  }
  if (entry.newest && record.phase == ContainerPhase::kRunning) {
    fill_cpu(*stats.mutable_cpu(), *entry.newest);
    if (entry.rate.known()) stats.mutable_cpu()->mutable_usage_nano_cores()->set_value(entry.rate.nano_cores());
    fill_memory(*stats.mutable_memory(), *entry.newest);
    fill_swap(*stats.mutable_swap(), *entry.newest);
    if (entry.newest->io_pressure) fill_io(*stats.mutable_io(), *entry.newest);
  }
  auto& layer = *stats.mutable_writable_layer();
  layer.mutable_fs_id()->set_mountpoint(disk_root);
  if (entry.disk) {
    layer.set_timestamp(entry.disk->timestamp_ns);
    if (!entry.disk->mountpoint.empty()) layer.mutable_fs_id()->set_mountpoint(entry.disk->mountpoint);
    layer.mutable_used_bytes()->set_value(entry.disk->used_bytes);
    layer.mutable_inodes_used()->set_value(entry.disk->inodes_used);
  } else {
    layer.set_timestamp(entry.newest ? entry.newest->timestamp_ns : record.created_at_ns);
    layer.mutable_used_bytes()->set_value(0);
    layer.mutable_inodes_used()->set_value(0);
  }
}

}  // namespace berth::cri
