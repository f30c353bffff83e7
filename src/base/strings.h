#pragma once
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

/// Splits at every `sep`; "a//b" gives an empty middle part; "" gives one empty part.
[[nodiscard]] std::vector<std::string_view> split(std::string_view text, char sep);
/// Without leading and trailing ASCII white space.
[[nodiscard]] std::string_view trim(std::string_view text);
[[nodiscard]] std::string join(const std::vector<std::string>& parts, std::string_view sep);
/// An absolute path by its words alone, without ".", "..", doubled and trailing slashes; links are not looked at.
[[nodiscard]] std::string clean_path(std::string_view path);
[[nodiscard]] std::string to_lower(std::string_view text);
/// "12.3 MiB": binary units, one decimal, for people.
[[nodiscard]] std::string human_bytes(std::uint64_t bytes);

/// The whole of `text` as a decimal (or base `base`) number, or nothing: no sign for unsigned types, no white space.
template <class N>
[[nodiscard]] std::optional<N> parse_number(std::string_view text, int base = 10) {
  N value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

}  // namespace berth
