#include "cri/stats_cache.h"

#include <algorithm>

namespace berth::cri {

namespace {

using Sample = ::berth::shim::v1::ContainerStatsResponse;

void fill_cpu(pb::CpuUsage& cpu, const Sample& sample) {
  cpu.set_timestamp(sample.timestamp_ns());
  cpu.mutable_usage_core_nano_seconds()->set_value(sample.cpu_usage_ns());
}

void fill_memory(pb::MemoryUsage& memory, const Sample& sample) {
  memory.set_timestamp(sample.timestamp_ns());
  memory.mutable_working_set_bytes()->set_value(sample.memory_working_set_bytes());
  memory.mutable_usage_bytes()->set_value(sample.memory_usage_bytes());
  memory.mutable_rss_bytes()->set_value(sample.memory_rss_bytes());
  memory.mutable_page_faults()->set_value(sample.memory_page_faults());
  memory.mutable_major_page_faults()->set_value(sample.memory_major_page_faults());
  if (sample.memory_limit_bytes() == 0) return;
  const auto used = sample.memory_working_set_bytes();
  memory.mutable_available_bytes()->set_value(used < sample.memory_limit_bytes() ? sample.memory_limit_bytes() - used
                                                                                 : 0);
}

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
  if (entry.newest && sample.timestamp_ns() < entry.newest->timestamp_ns()) return;
  entry.rate.add(sample.timestamp_ns(), sample.cpu_usage_ns());
  entry.newest = sample;
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

pb::ContainerStats StatsCache::get(const ContainerRecord& record, const std::string& disk_root) const {
  pb::ContainerStats stats;
  fill_attributes(*stats.mutable_attributes(), record);
  Entry entry;
  {
    MutexLock lock(mutex_);
    if (const auto found = entries_.find(record.id); found != entries_.end()) entry = found->second;
  }
  if (entry.newest && record.phase == ContainerPhase::kRunning) {
    fill_cpu(*stats.mutable_cpu(), *entry.newest);
    if (entry.rate.known()) stats.mutable_cpu()->mutable_usage_nano_cores()->set_value(entry.rate.nano_cores());
    fill_memory(*stats.mutable_memory(), *entry.newest);
    stats.mutable_swap()->set_timestamp(entry.newest->timestamp_ns());
    stats.mutable_swap()->mutable_swap_usage_bytes()->set_value(entry.newest->swap_usage_bytes());
  }
  auto& layer = *stats.mutable_writable_layer();
  layer.mutable_fs_id()->set_mountpoint(disk_root);
  if (entry.disk) {
    layer.set_timestamp(entry.disk->timestamp_ns);
    if (!entry.disk->mountpoint.empty()) layer.mutable_fs_id()->set_mountpoint(entry.disk->mountpoint);
    layer.mutable_used_bytes()->set_value(entry.disk->used_bytes);
    layer.mutable_inodes_used()->set_value(entry.disk->inodes_used);
  } else {
    layer.set_timestamp(entry.newest ? entry.newest->timestamp_ns() : record.created_at_ns);
    layer.mutable_used_bytes()->set_value(0);
    layer.mutable_inodes_used()->set_value(0);
  }
  return stats;
}

}  // namespace berth::cri
