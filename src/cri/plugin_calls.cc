// What NRI plugins ask of the service.
#include "base/log.h"
#include "cri/service_impl.h"
#include "spec/runtime.h"

namespace berth::cri {

namespace {

// Between the stop signal and SIGKILL of a container that a plugin evicts.
constexpr std::int64_t kEvictionGrace = 10;

bool lives(const ContainerRecord* record) {
  return record != nullptr && (record->phase == ContainerPhase::kCreated || record->phase == ContainerPhase::kRunning);
}

}  // namespace

void ServiceImpl::open_plugins() {
  if (!options_.nri) return;
  plugins_.open(*options_.nri, *reactor_,
                {.registry = registry_.get(),
                 .workers = &workers_,
                 .bundle = [this](const ContainerRecord& record) { return dir_of(record); },
                 .update = [this](const std::string& id,
                                  const nri_api::LinuxResources& limits) { return update_for_plugin(id, limits); },
                 .evict = [this](const nri::Eviction& eviction) { return evict_for_plugin(eviction); },
                 .cgroup_exists = [this](const std::string& path) { return cgroup_exists(cgroups_, path); },
                 .machine = {.swap_accounting = host_.swap_accounting,
                             .hugetlb = host_.hugetlb,
                             .cgroup_v2 = host_.cgroup_v2,
                             .shared_mounts = host_.shared_mounts},
                 .cdi_dirs = options_.cdi_dirs});
}

Result<> ServiceImpl::update_for_plugin(const std::string& id, const nri_api::LinuxResources& limits) {
  const auto record = registry_->container(id);
  if (!lives(record.get())) return fail(Code::kNotFound, "no container " + id.substr(0, 64) + " that lives");
  if (!limits.blockio_class().value().empty() || !limits.rdt_class().value().empty()) {
    return fail(Code::kUnsupported, "no classes of block I/O and RDT are configured");
  }
  spec::Resources resources;
  BERTH_TRY(nri::apply(limits, plugins_.machine(), resources), "update");
  BERTH_ASSIGN(const auto link, link_of(record->sandbox_id), "shim");
  BERTH_TRY(link->update(id, spec::write_resources(resources)), "runtime");
  auto stored = registry_->update_container(id, [&limits](ContainerRecord& next) {
    merge_limits(limits, next.resources);
    return true;
  });
  if (!stored) return fail(std::move(stored).error());
  return {};
}

Result<> ServiceImpl::evict_for_plugin(const nri::Eviction& eviction) {
  const auto record = registry_->container(eviction.container);
  if (!lives(record.get())) return fail(Code::kNotFound, "no container of that id lives");
  const std::string why = "evicted by NRI plugin " + eviction.plugin +
                          (eviction.reason.empty() ? "" : ": " + eviction.reason.substr(0, 512));
  log_warn("a container is evicted", {{"container", record->id}, {"why", why}});
  note_event(record->sandbox_id, record->id, "container " + record->config.metadata().name() + " is ended", why);
  operations_.start("evict " + record->id, "eviction of " + record->id,
                    [this, record](Operation& operation) -> Result<std::string> {
                      operation.about(record->sandbox_id, record->id);
                      BERTH_TRY(stop_gently(operation, *record, kEvictionGrace), "evict");
                      return std::string();
                    });
  return {};
}

}  // namespace berth::cri
