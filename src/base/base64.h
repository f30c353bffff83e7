#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace berth {

/// RFC 4648, section 4, with padding.
[[nodiscard]] std::string base64_encode(std::string_view bytes);
/// Nothing when `text` is no base64 (white space at the ends and missing padding are accepted).
[[nodiscard]] std::optional<std::string> base64_decode(std::string_view text);

}  // namespace berth
