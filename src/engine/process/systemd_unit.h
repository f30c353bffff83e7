#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/process/cgroup_plan.h"
#include "os/systemd_unit.h"
#include "spec/runtime.h"

/// What the systemd cgroup driver asks of systemd, as text. Pure, but for resource_properties() and
/// set_scope_limits(). Source:
/// org.freedesktop.systemd1(5), systemd.resource-control(5), systemd.slice(5); runc's docs/systemd.md for the form of
/// linux.cgroupsPath.
namespace berth::engine::process {

using os::limit_properties;
using os::slice_path;
using os::SystemdUnit;
using os::UnitProperties;

/// `cgroups_path`: "slice:prefix:name"; empty: the default slice ("system.slice", a user's "user.slice"), "berth",
/// `id`; so is an empty slice. An empty prefix leaves the name alone. A name that ends in ".slice" is no scope and
/// refused. Errors: kInvalid another form, or a part that cannot be in the name of a unit.
Result<SystemdUnit> systemd_unit(const std::string& cgroups_path, const std::string& id, bool user);

/// Where the driver puts a container, below each hierarchy: "/a.slice/a-b.slice/p-c1.scope". Errors as systemd_unit().
Result<std::string> scope_path(const std::string& cgroups_path, const std::string& id);
/// v1: the rules of linux.resources.devices. `proc_devices`: the text of /proc/devices, which names the drivers.
/// Nothing where what is not named is allowed: systemd has no words for that.
[[nodiscard]] UnitProperties device_properties(const std::vector<spec::DeviceRule>& rules,
                                               std::string_view proc_devices);
/// All of the limits of `resources`, the devices under v1 included. Reads /proc/devices.
Result<UnitProperties> resource_properties(const spec::Resources& resources, bool v2);
/// Tells systemd the limits of the scope at `path`, which somebody else made. Blocks on systemd; errors as
/// os::set_unit().
Result<> set_scope_limits(const std::string& program, const std::string& path, const spec::Resources& resources,
                          bool v2);
/// The annotations "org.systemd.property.NAME": a property in GVariant text. "NAMESec" is in seconds and becomes
/// "NAMEUSec". Errors: kInvalid, naming the annotation.
Result<UnitProperties> annotation_properties(const spec::StringMap& annotations);

}  // namespace berth::engine::process
