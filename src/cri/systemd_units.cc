#include "os/systemd.h"

#include <algorithm>

#include "base/log.h"
#include "cri/service_impl.h"
#include "os/cgroup_control.h"

/// What the daemon itself asks of systemd, where that makes the cgroups: a pod's slice gets the pod's limits, and what
/// nobody else ends any more is ended. The pods' scopes are made by their shims.
namespace berth::cri {

namespace {

/// What systemd has there, or somebody who went round it.
Result<bool> has_children(const os::CgroupLayout& cgroups, const std::string& path) {
  const auto* const hierarchy = cgroups.find("name=systemd");
  if (hierarchy == nullptr) return fail(Code::kUnavailable, "there is no hierarchy of systemd's");
  BERTH_ASSIGN(const auto children, os::child_cgroups(hierarchy->root.get(), path), "look into " + path);
  return !children.empty();
}

}  // namespace

Result<> ServiceImpl::end_unit(const std::string& path) {
  BERTH_TRY(os::stop_unit(options_.scope_program, {unit_of(path), {}, false}), "systemd");
  // Hierarchies of v1 that systemd does not use.
  return remove_cgroups(cgroups_, path);
}

Result<bool> ServiceImpl::end_empty_slice(const std::string& path) {
  if (path == parent_path_) return false;
  // Who ends a slice ends all in it, and that may be another's: not without having looked.
  BERTH_ASSIGN(const bool used, has_children(cgroups_, path), "slice");
  if (used) return false;
  BERTH_TRY(end_unit(path), "slice");
  return true;
}

void ServiceImpl::end_cleared_units(bool systemd, const std::vector<std::string>& paths,
                                    const std::vector<std::string>& left) {
  if (!systemd) return;
  for (const auto& path : paths) {
    if (!path.ends_with(".scope") || std::ranges::find(left, path) != left.end()) continue;
    if (auto ended = end_unit(path); !ended) {
      log_warn("a scope whose cgroup is gone stays", {{"scope", unit_of(path)}, {"err", ended.error().text()}});
    }
  }
}

Result<> ServiceImpl::limit_pod(const SandboxRecord& record, const os::CgroupPlan& plan) {
  if (record.systemd_cgroups) {
    // systemd first: what it knows is what it writes, and the exact values after it.
    BERTH_ASSIGN(const auto properties, os::limit_properties(plan, cgroups_.v2), "systemd");
    const os::SystemdUnit slice{unit_of(record.cgroup_parent), {}, false};
    BERTH_TRY(os::set_unit(options_.scope_program, slice, properties), "systemd");
  }
  // A kubelet makes it before the sandbox; else it comes with the first container. The record names it, so that it goes
  // with the pod.
  BERTH_TRY(os::make_cgroups(cgroups_, record.cgroup_parent), "cgroup");
  const std::vector<std::string> paths(cgroups_.hierarchies.size(), record.cgroup_parent);
  return os::apply_cgroup_plan(cgroups_, paths, plan);
}

Result<> ServiceImpl::clear_units(const std::string& path) {
  for (const auto& hierarchy : cgroups_.hierarchies) {
    const auto children = os::child_cgroups(hierarchy.root.get(), path);
    for (const auto& name : children ? *children : std::vector<std::string>()) {
      if (name.ends_with(".scope")) BERTH_TRY(end_unit(path + "/" + name), name);
    }
  }
  return end_unit(path);
}

}  // namespace berth::cri
