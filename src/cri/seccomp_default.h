#pragma once
#include <cstdint>
#include <functional>
#include <string_view>

#include "spec/runtime.h"

namespace berth::cri {

/// The profile behind "RuntimeDefault": a list of system calls that are allowed, some only with a capability,
/// everything else fails with EPERM (clone3 with ENOSYS, so that libc falls back to clone, whose flags can be looked
/// at). `has_cap`: whether the container's bounding set holds "CAP_...". Pure.
[[nodiscard]] spec::Seccomp default_seccomp(const std::function<bool(std::string_view)>& has_cap);

}  // namespace berth::cri
