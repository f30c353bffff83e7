#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace berth::shim {

/// Writes `<bundle>/exit`: "CODE NANOSECONDS REASON" and a newline. The daemon reads it when the shim dies before it
/// could tell of the end (docs/shim.md, Exits). Errors: by errno.
Result<> note_exit(const std::string& bundle, std::uint32_t code, std::int64_t at_ns, std::string_view reason);

}  // namespace berth::shim
