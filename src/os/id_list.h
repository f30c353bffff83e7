#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace berth::os {

/// A list of ids ("0-3,7") as a bit set: id N is bit N % 64 of word N / 64; empty for an empty list. Spaces around and
/// empty elements are taken, as runc does. Errors: kInvalid anything else, an id above 65536.
Result<std::vector<std::uint64_t>> parse_id_list(std::string_view text);

}  // namespace berth::os
