#include "nri/adjustment.h"

namespace berth::nri {
namespace {

// Copies `field` of `asked` into `into` when it is there, in the plugin's name.
#define BERTH_NRI_MERGE(field, owner)                                  \
  if (asked.has_##field()) {                                           \
    BERTH_TRY(owners.claim(container, api::owner, {}, plugin), "set"); \
    *into.mutable_##field() = asked.field();                           \
  }

Result<> merge_memory(const api::LinuxMemory& asked, api::LinuxMemory& into, Owners& owners,
                      const std::string& container, const std::string& plugin) {
  BERTH_NRI_MERGE(limit, MemLimit)
  BERTH_NRI_MERGE(reservation, MemReservation)
  BERTH_NRI_MERGE(swap, MemSwapLimit)
  BERTH_NRI_MERGE(kernel, MemKernelLimit)
  BERTH_NRI_MERGE(kernel_tcp, MemTCPLimit)
  BERTH_NRI_MERGE(swappiness, MemSwappiness)
  BERTH_NRI_MERGE(disable_oom_killer, MemDisableOomKiller)
  BERTH_NRI_MERGE(use_hierarchy, MemUseHierarchy)
  return {};
}

Result<> merge_cpu(const api::LinuxCPU& asked, api::LinuxCPU& into, Owners& owners, const std::string& container,
                   const std::string& plugin) {
  BERTH_NRI_MERGE(shares, CPUShares)
  BERTH_NRI_MERGE(quota, CPUQuota)
  BERTH_NRI_MERGE(period, CPUPeriod)
  BERTH_NRI_MERGE(realtime_runtime, CPURealtimeRuntime)
  BERTH_NRI_MERGE(realtime_period, CPURealtimePeriod)
  if (!asked.cpus().empty()) {
    BERTH_TRY(owners.claim(container, api::CPUSetCPUs, {}, plugin), "set");
    into.set_cpus(asked.cpus());
  }
  if (!asked.mems().empty()) {
    BERTH_TRY(owners.claim(container, api::CPUSetMems, {}, plugin), "set");
    into.set_mems(asked.mems());
  }
  return {};
}

}  // namespace

Result<> merge_resources(const api::LinuxResources& asked, api::LinuxResources& into, Owners& owners,
                         const std::string& container, const std::string& plugin) {
  if (asked.has_memory()) {
    BERTH_TRY(merge_memory(asked.memory(), *into.mutable_memory(), owners, container, plugin), "memory");
  }
  if (asked.has_cpu()) BERTH_TRY(merge_cpu(asked.cpu(), *into.mutable_cpu(), owners, container, plugin), "cpu");
  for (const auto& limit : asked.hugepage_limits()) {
    BERTH_TRY(owners.claim(container, api::HugepageLimits, limit.page_size(), plugin), "hugepages");
    auto& list = *into.mutable_hugepage_limits();
    for (int i = list.size() - 1; i >= 0; --i) {
      if (list.Get(i).page_size() == limit.page_size()) list.DeleteSubrange(i, 1);
    }
    *list.Add() = limit;
  }
  for (const auto& [file, value] : asked.unified()) {
    BERTH_TRY(owners.claim(container, api::CgroupsUnified, file, plugin), "unified");
    (*into.mutable_unified())[file] = value;
  }
  BERTH_NRI_MERGE(blockio_class, BlockioClass)
  BERTH_NRI_MERGE(rdt_class, RdtClass)
  BERTH_NRI_MERGE(pids, PidsLimit)
  return {};
}

#undef BERTH_NRI_MERGE

Result<> Updates::add(const google::protobuf::RepeatedPtrField<api::ContainerUpdate>& updates,
                      const std::string& plugin) {
  for (const auto& update : updates) {
    const std::string& id = update.container_id();
    if (id.empty()) return fail(Code::kInvalid, "NRI plugin " + plugin + " asks for an update without a container");
    const bool own = id == target_ && resources_ != nullptr;
    if (!own && !updates_.contains(id)) {
      auto& entry = updates_[id];
      entry.set_container_id(id);
      entry.set_ignore_failure(true);
      order_.push_back(id);
    }
    auto& into = own ? *resources_ : *updates_[id].mutable_linux()->mutable_resources();
    auto copy = into;
    auto merged = merge_resources(update.linux().resources(), copy, owners_, id, plugin);
    if (!merged && !update.ignore_failure()) return merged;
    if (merged) into.Swap(&copy);
    if (!own && !update.ignore_failure()) updates_[id].set_ignore_failure(false);
  }
  return {};
}

std::vector<api::ContainerUpdate> Updates::all() const {
  std::vector<api::ContainerUpdate> all;
  for (const auto& id : order_) all.push_back(updates_.at(id));
  return all;
}

std::vector<api::ContainerUpdate> Updates::take() {
  std::vector<api::ContainerUpdate> all;
  for (const auto& id : order_) all.push_back(std::move(updates_[id]));
  order_.clear();
  updates_.clear();
  return all;
}

}  // namespace berth::nri
