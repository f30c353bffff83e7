#pragma once
#include <string>

#include "args.h"
#include "base/result.h"
#include "spec/runtime.h"

namespace berth::oci {

/// Where the state is without --root. Below a caller's user namespace (podman without root) that is the user's runtime
/// folder. The same choice as runc's, so that callers find it.
[[nodiscard]] std::string default_root();

/// Root, and not of a user namespace alone.
[[nodiscard]] bool machine_root();

/// --rootless true|false|auto: whether a lack of rights over cgroups is no failure. "auto": for everybody who is not
/// the machine's root. kInvalid another word.
Result<bool> rootless_of(const Args& global);

/// Whether the caller could make the cgroup that ProcessEngine::cgroup_for() tells, in every hierarchy. Makes nothing.
[[nodiscard]] bool may_make_cgroup(const std::string& saved_path);

/// For a container without cgroups: takes the rules for devices away, which there is nobody to enforce. A user
/// namespace may make no device anyway. Limits stay and are refused, since the caller counts on them.
void drop_device_rules(spec::Spec& spec);

}  // namespace berth::oci
