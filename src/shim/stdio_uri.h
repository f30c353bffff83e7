#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace berth::shim {

/// What the stdin, stdout and stderr members of a request name (docs/shim.md).
struct StdioUri {
  enum class Kind : std::uint8_t { kNull, kPath, kFile, kCriLog, kWatched };
  Kind kind = Kind::kNull;
  std::string path;  ///< absolute; empty for kNull and kWatched. Taken as it is, nothing is decoded.
};

/// Empty, `watched://`, an absolute path, or `fifo://`, `file://`, `cri-log://` and an absolute path. Errors: kInvalid
/// a relative path or a NUL; kUnsupported another scheme.
[[nodiscard]] Result<StdioUri> parse_stdio_uri(std::string_view text);

}  // namespace berth::shim
