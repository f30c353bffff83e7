#pragma once
#include <string>
#include <string_view>

#include "spec/runtime.h"

/// Options of a mount by which the daemon tells its shim what no option of mount(8) says (docs/shim.md). Nobody else
/// may set them.
namespace berth::spec {

inline constexpr std::string_view kOwnOption = "X-berth.";
inline constexpr std::string_view kHostOption = "X-berth.host";
[[nodiscard]] inline bool is_own_option(std::string_view option) {
  return option.starts_with(kOwnOption);
}

[[nodiscard]] bool is_bind(const Mount& mount);
/// Whether it shares what is mounted below it with its source, either way.
[[nodiscard]] bool propagates(const Mount& mount);
/// Whether what is mounted below its source later is to show in it, and no more: "slave" or "rslave".
[[nodiscard]] bool receives(const Mount& mount);
/// Has the shim make a bind mount of a path of the host where the host is, when it must be: a copy of what the shim
/// sees is no peer of the host's mount, and where the host's root is not shared (`shared_mounts`) it has not what was
/// mounted since the shim's start.
void mark_host_source(Mount& mount, bool shared_mounts);

}  // namespace berth::spec
