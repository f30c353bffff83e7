#include "engine/process/systemd_unit.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "base/strings.h"
#include "engine/process/device_filter.h"
#include "os/file.h"
#include "os/systemd.h"

namespace berth::engine::process {

namespace {

/// The driver's name of a major number in one half of /proc/devices.
std::string driver_of(std::string_view proc_devices, bool block, std::int64_t major) {
  bool in_block = false;
  for (const auto line : split(proc_devices, '\n')) {
    if (line.starts_with("Block devices")) in_block = true;
    const auto text = trim(line);
    const std::size_t space = text.find(' ');
    if (in_block != block || space == std::string_view::npos) continue;
    if (parse_number<std::int64_t>(text.substr(0, space)) == major) return std::string(trim(text.substr(space)));
  }
  return {};
}

bool any_number(const std::optional<std::int64_t>& number) {
  return !number || *number < 0;
}

/// What DeviceAllow= calls the devices of a rule of one type; empty: nothing does.
std::string device_words(const spec::DeviceRule& rule, bool block, std::string_view proc_devices) {
  const std::string kind = block ? "block" : "char";
  if (any_number(rule.major)) return any_number(rule.minor) ? kind + "-*" : std::string();
  if (any_number(rule.minor)) {
    const std::string driver = driver_of(proc_devices, block, *rule.major);
    return driver.empty() ? std::string() : kind + "-" + driver;
  }
  return "/dev/" + kind + "/" + std::to_string(*rule.major) + ":" + std::to_string(*rule.minor);
}

}  // namespace

Result<SystemdUnit> systemd_unit(const std::string& cgroups_path, const std::string& id, bool user) {
  SystemdUnit unit;
  unit.user = user;
  std::string prefix = "berth";
  std::string name = id;
  if (!cgroups_path.empty()) {
    const auto parts = split(cgroups_path, ':');
    if (parts.size() != 3 || parts[2].empty()) {
      return fail(Code::kInvalid,
                  "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"" +
                      cgroups_path + "\" instead");
    }
    unit.slice = parts[0];
    prefix = parts[1];
    name = parts[2];
  }
  if (unit.slice.empty()) unit.slice = user ? "user.slice" : "system.slice";
  BERTH_TRY(slice_path(unit.slice), "linux.cgroupsPath");
  if (name.ends_with(".slice")) {
    return fail(Code::kInvalid, "linux.cgroupsPath: \"" + name + "\" is a slice, a container needs a scope");
  }
  unit.name = prefix.empty() ? name : prefix + "-" + name;
  unit.name.append(".scope");
  if (!os::is_unit_name(unit.name)) {
    return fail(Code::kInvalid, "linux.cgroupsPath: \"" + unit.name + "\" cannot be the name of a unit");
  }
  return unit;
}

Result<std::string> scope_path(const std::string& cgroups_path, const std::string& id) {
  BERTH_ASSIGN(const SystemdUnit unit, systemd_unit(cgroups_path, id, false), "cgroup");
  BERTH_ASSIGN(const std::string slice, slice_path(unit.slice), "cgroup");
  return slice + "/" + unit.name;
}

UnitProperties device_properties(const std::vector<spec::DeviceRule>& rules, std::string_view proc_devices) {
  std::vector<std::string> allowed;
  bool closed = false;
  for (const auto& rule : with_default_rules(rules)) {
    const bool all_types = rule.type.empty() || rule.type == "a";
    if (all_types && any_number(rule.major) && any_number(rule.minor)) {
      closed = !rule.allow;
      allowed.clear();
      continue;
    }
    for (const bool block : {false, true}) {
      if (!all_types && rule.type != (block ? "b" : "c")) continue;
      const std::string words = device_words(rule, block, proc_devices);
      if (words.empty()) continue;
      std::erase_if(allowed, [&](const std::string& line) { return line.starts_with(words + " "); });
      if (rule.allow) allowed.push_back(words + " " + (rule.access.empty() ? "rwm" : rule.access));
    }
  }
  if (!closed) return {};
  return {"DevicePolicy:s=strict",
          "DeviceAllow:a(ss)=", os::unit_property("DeviceAllow", "a(ss)", join(allowed, "\n"))};
}

Result<UnitProperties> resource_properties(const spec::Resources& resources, bool v2) {
  BERTH_ASSIGN(const CgroupPlan plan, v2 ? plan_cgroup_v2(resources) : plan_cgroup_v1(resources), "resources");
  BERTH_ASSIGN(UnitProperties properties, limit_properties(plan, v2), "resources");
  // Under v2 they are a program of ours beside whatever systemd has, which leaves it alone.
  if (v2 || resources.devices.empty()) return properties;
  constexpr std::size_t kDevicesLimit = 64U << 10;
  BERTH_ASSIGN(const std::string drivers, os::read_file("/proc/devices", kDevicesLimit), "devices");
  const auto devices = device_properties(resources.devices, drivers);
  properties.insert(properties.end(), devices.begin(), devices.end());
  return properties;
}

Result<> set_scope_limits(const std::string& program, const std::string& path, const spec::Resources& resources,
                          bool v2) {
  BERTH_ASSIGN(const UnitProperties properties, resource_properties(resources, v2), "systemd");
  return os::set_unit(program, {path.substr(path.rfind('/') + 1), {}, false}, properties);
}

}  // namespace berth::engine::process
