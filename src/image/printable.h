#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace berth::image {

/// Foreign text made fit for an error line: at most `limit` bytes, everything but printable ASCII as \xNN, quotes
/// escaped.
[[nodiscard]] std::string printable(std::string_view text, std::size_t limit = 200);

}  // namespace berth::image
