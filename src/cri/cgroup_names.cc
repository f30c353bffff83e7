#include "cri/cgroup_names.h"

#include "cri/spec_builder.h"
#include "os/systemd_unit.h"

namespace berth::cri {

namespace {

constexpr std::string_view kScope = ".scope";
constexpr std::string_view kSlice = ".slice";
constexpr std::string_view kOurs = "berth-";

/// Nobody writes a path so: a folder may be called like a slice, but a kubelet's paths start at the top.
bool looks_like_slice(std::string_view asked) {
  return !asked.starts_with('/') && asked.ends_with(kSlice);
}

Result<std::string> path_of_slice(const std::string& slice) {
  BERTH_ASSIGN(auto path, os::slice_path(slice), "cgroup");
  if (path.empty()) return fail(Code::kInvalid, "\"" + slice + "\" holds everything that runs");
  return path;
}

}  // namespace

Result<std::string> parent_cgroup(CgroupDriver driver, const std::string& parent) {
  if (driver == CgroupDriver::kSystemd) return path_of_slice(parent);
  if (looks_like_slice(parent)) {
    return fail(Code::kInvalid, "\"" + parent + "\" is a slice, which is for the systemd driver");
  }
  return cgroup_parent_path(parent);
}

Result<std::string> pod_cgroup(CgroupDriver driver, std::string_view asked, const std::string& parent,
                               const std::string& sandbox_id) {
  const std::string text(asked);
  if (driver == CgroupDriver::kCgroupfs) {
    if (asked.empty()) return cgroup_parent_path(parent + "/" + sandbox_id);
    if (!looks_like_slice(asked)) return cgroup_parent_path(asked);
    return fail(Code::kInvalid, "cgroup_parent \"" + text +
                                    "\" is a slice of systemd's, and Berth's cgroup.driver is \"cgroupfs\": it and the "
                                    "kubelet's cgroupDriver must be the same");
  }
  if (asked.empty()) {
    return path_of_slice(parent.substr(0, parent.size() - kSlice.size()) + "-" + sandbox_id + std::string(kSlice));
  }
  if (!looks_like_slice(asked) || asked.find('/') != std::string_view::npos) {
    return fail(Code::kInvalid, "cgroup_parent \"" + text +
                                    "\" is no slice like \"kubepods-podUID.slice\", and Berth's cgroup.driver is "
                                    "\"systemd\": it and the kubelet's cgroupDriver must be the same");
  }
  auto path = path_of_slice(text);
  if (!path) return fail(std::move(path).error().in("cgroup_parent"));
  return path;
}

std::string unit_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

std::string scope_name(std::string_view id) {
  return std::string(kOurs).append(id).append(kScope);
}

std::string container_cgroup(CgroupDriver driver, const std::string& pod, const std::string& id) {
  return pod + "/" + (driver == CgroupDriver::kSystemd ? scope_name(id) : id);
}

std::string spec_cgroups_path(CgroupDriver driver, const std::string& pod, const std::string& id) {
  return driver == CgroupDriver::kSystemd ? unit_of(pod) + ":berth:" + id : pod + "/" + id;
}

std::string shown_cgroups_path(const std::string& path, const std::string& id) {
  const std::string end = "/" + scope_name(id);
  if (!path.ends_with(end)) return path;
  return spec_cgroups_path(CgroupDriver::kSystemd, path.substr(0, path.size() - end.size()), id);
}

std::string_view owner_in_name(std::string_view name) {
  // A pod's own slice is called after the one that it is in, whose name has dashes, perhaps; an id has none.
  const bool slice = name.ends_with(kSlice);
  if (!slice && !(name.starts_with(kOurs) && name.ends_with(kScope))) return name;
  name.remove_suffix(slice ? kSlice.size() : kScope.size());
  return name.substr(slice ? name.rfind('-') + 1 : kOurs.size());
}

}  // namespace berth::cri
