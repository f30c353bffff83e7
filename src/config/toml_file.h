#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

/// A TOML text as a list of settings. Private to src/config.
namespace berth::config {

struct Value {
  enum class Kind : std::uint8_t { kString, kInteger, kBool, kList, kTable, kOther };
  Kind kind = Kind::kOther;
  std::string_view type{};          ///< "a string", "a floating-point number", ...: for messages
  std::string text{};               ///< kString
  std::int64_t number = 0;          ///< kInteger
  bool flag = false;                ///< kBool
  std::vector<std::string> list{};  ///< kList
  bool list_of_strings = true;      ///< kList: false when an entry is of another kind
};

/// `path`: the keys from the top, "network" "mtu". A table is a setting of its own, before what it holds; tables below
/// the third level are not opened.
struct Setting {
  std::vector<std::string> path;
  std::uint32_t line = 0;
  Value value;
};

/// The settings in the order of their lines. Bounded as toml::parse() says.
/// Error: kInvalid "LINE: what"; kExhausted. Never throws. Source: TOML 1.0.
[[nodiscard]] Result<std::vector<Setting>> read_toml(std::string_view text);

inline constexpr std::size_t kMaxFileBytes = 1U << 20;

}  // namespace berth::config
