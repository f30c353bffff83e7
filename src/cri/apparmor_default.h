#pragma once
#include <string>
#include <string_view>

#include "base/result.h"

/// The AppArmor profile of containers for which nobody names another (CRI's RuntimeDefault).
namespace berth::cri {

/// Its name, as it is in /proc/PID/attr/apparmor/current.
inline constexpr std::string_view kDefaultAppArmorProfile = "berth-default";

/// The profile as apparmor_parser(8) reads it: no file of the host's is included. Source: apparmor.d(5).
[[nodiscard]] std::string default_apparmor_profile();

/// Loads it, in the place of an earlier one of its name. Blocks until the program has ended, for half a minute at most.
/// Where that fails and the kernel has one of its name, that one is kept, and the log says why. Errors: kUnavailable
/// there is no apparmor_parser; kInternal what that said; kTimeout.
Result<> load_default_apparmor_profile();

/// Whether the kernel has a profile of that name and enforces it. `loaded`: the text of
/// /sys/kernel/security/apparmor/profiles.
[[nodiscard]] bool has_apparmor_profile(std::string_view loaded, std::string_view name);

}  // namespace berth::cri
