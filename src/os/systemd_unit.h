#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "os/cgroup_control.h"

/// What is asked of systemd about cgroups, as text. Pure. Source: org.freedesktop.systemd1(5),
/// systemd.resource-control(5), systemd.slice(5).
namespace berth::os {

/// A unit with a cgroup: a scope, or a slice.
struct SystemdUnit {
  std::string name;   ///< "berth-c1.scope"
  std::string slice;  ///< the one that it is in: "system.slice"; of no use where the unit is there already
  bool user = false;  ///< of the user's manager, not the system's
};

/// A property as berth-scope takes it: "[?]NAME:TYPE=VALUE" (apps/berth-scope/property.h).
using UnitProperties = std::vector<std::string>;
/// What systemd has for "no limit" in a property of type t.
inline constexpr std::string_view kNoUnitLimit = "18446744073709551615";

[[nodiscard]] std::string unit_property(std::string_view name, std::string_view type, std::string_view value);
/// Whether a unit can have that name.
[[nodiscard]] bool is_unit_name(std::string_view name);
/// Where systemd keeps a slice: "a-b.slice" is "/a.slice/a-b.slice"; "-.slice" is "". kInvalid no name of a slice.
[[nodiscard]] Result<std::string> slice_path(const std::string& slice);
/// What makes a scope, without limits. Its cgroup is handed over to whoever is in it.
[[nodiscard]] UnitProperties scope_properties(const SystemdUnit& unit, std::string_view description);
/// The limits that systemd writes itself, and would write anew as it knows them (daemon-reload): the properties that
/// mean what the writes of `plan` do. What has no property is left to the plan alone.
[[nodiscard]] Result<UnitProperties> limit_properties(const CgroupPlan& plan, bool v2);

}  // namespace berth::os
