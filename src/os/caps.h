#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/result.h"

/// Capabilities and identity of the calling process, by the raw calls: nothing here tells other threads. For the time
/// between fork and exec of a single-threaded program. Source: capabilities(7).
namespace berth::os {

/// "CAP_CHOWN" to 0; nothing for a name that this program does not know.
[[nodiscard]] std::optional<int> cap_number(std::string_view name);
/// The names that cap_number knows, by number.
[[nodiscard]] std::span<const std::string_view> cap_names();

struct CapSets {
  std::uint64_t effective = 0;
  std::uint64_t permitted = 0;
  std::uint64_t inheritable = 0;
};
Result<CapSets> get_caps();
Result<> set_caps(const CapSets& sets);
/// The bounding set, as far as this kernel has capabilities; a call of the kernel for each one `among` which it looks.
[[nodiscard]] std::uint64_t bounding_caps(std::uint64_t among = ~0ULL);
/// Drops what is not in `keep` from the bounding set.
Result<> limit_bounding_caps(std::uint64_t keep);
/// Clears the ambient set and raises those of `caps`.
Result<> set_ambient_caps(std::uint64_t caps);

/// prctl(PR_SET_KEEPCAPS): permitted capabilities survive the next change of uid. exec clears it.
Result<> keep_caps(bool on);
Result<> set_groups(std::span<const gid_t> groups);
/// setresgid, then setresuid. kInvalid for 4294967295, which would change nothing.
Result<> set_ids(uid_t uid, gid_t gid);

}  // namespace berth::os
