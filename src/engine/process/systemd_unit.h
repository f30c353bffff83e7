#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/process/cgroup_plan.h"
#include "spec/runtime.h"

/// What the systemd cgroup driver asks of systemd, as text. Pure, but for resource_properties(). Source:
/// org.freedesktop.systemd1(5), systemd.resource-control(5), systemd.slice(5); runc's docs/systemd.md for the form of
/// linux.cgroupsPath.
namespace berth::engine::process {

/// A container's scope.
struct SystemdUnit {
  std::string name;   ///< "berth-c1.scope"
  std::string slice;  ///< "system.slice"
  bool user = false;  ///< of the user's manager, not the system's
};

/// `cgroups_path`: "slice:prefix:name"; empty: the default slice ("system.slice", a user's "user.slice"), "berth",
/// `id`; so is an empty slice. An empty prefix leaves the name alone. A name that ends in ".slice" is no scope and
/// refused. Errors: kInvalid another form, or a part that cannot be in the name of a unit.
Result<SystemdUnit> systemd_unit(const std::string& cgroups_path, const std::string& id, bool user);

/// Where systemd keeps a slice: "a-b.slice" is "/a.slice/a-b.slice"; "-.slice" is "". kInvalid no name of a slice.
Result<std::string> slice_path(const std::string& slice);

/// A property as berth-scope takes it: "[?]NAME:TYPE=VALUE" (apps/berth-scope/property.h).
using UnitProperties = std::vector<std::string>;

/// What makes the scope, without limits.
[[nodiscard]] UnitProperties scope_properties(const SystemdUnit& unit, const std::string& id);
/// The limits that systemd writes itself, and would write anew as it knows them (daemon-reload): the properties that
/// mean what the writes of `plan` do. What has no property is left to the plan alone.
Result<UnitProperties> limit_properties(const CgroupPlan& plan, bool v2);
/// v1: the rules of linux.resources.devices. `proc_devices`: the text of /proc/devices, which names the drivers.
/// Nothing where what is not named is allowed: systemd has no words for that.
[[nodiscard]] UnitProperties device_properties(const std::vector<spec::DeviceRule>& rules,
                                               std::string_view proc_devices);
/// All of the limits of `resources`, the devices under v1 included. Reads /proc/devices.
Result<UnitProperties> resource_properties(const spec::Resources& resources, bool v2);
/// The annotations "org.systemd.property.NAME": a property in GVariant text. "NAMESec" is in seconds and becomes
/// "NAMEUSec". Errors: kInvalid, naming the annotation.
Result<UnitProperties> annotation_properties(const spec::StringMap& annotations);

}  // namespace berth::engine::process
