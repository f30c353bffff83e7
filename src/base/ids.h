#pragma once
#include <string>
#include <string_view>

#include "base/result.h"

namespace berth {

/// A new identifier: 64 lower-case hex digits from getrandom(2), as CRI users know container ids.
[[nodiscard]] std::string new_id();
/// `bytes` random bytes as lower-case hex. 1 <= bytes <= 64.
[[nodiscard]] std::string random_hex(std::size_t bytes);

/// Whether `id` can name a file and a cgroup: 1 to 255 of [A-Za-z0-9_.+-], not "." or "..", first one alphanumeric or
/// '_'.
[[nodiscard]] bool valid_id(std::string_view id);

}  // namespace berth
