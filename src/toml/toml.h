#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace berth::toml {

struct Member;

/// One value. Values copy.
struct Node {
  enum class Kind : std::uint8_t { kString, kInteger, kBool, kList, kTable, kOther };
  Kind kind = Kind::kOther;
  std::string_view type{};      ///< "a string", "a number with a fraction", ...: for messages
  std::string text{};           ///< kString
  std::int64_t number = 0;      ///< kInteger
  bool flag = false;            ///< kBool
  std::vector<Node> items{};    ///< kList
  std::vector<Member> members;  ///< kTable, in the order of the file

  /// Of a table: its member `key`, or nullptr.
  [[nodiscard]] const Member* find(std::string_view key) const;
};

struct Member {
  std::string key;
  std::uint32_t line = 1;  ///< of the key, from 1
  std::uint32_t column = 1;
  Node value;
};

/// The whole text as a table. At most `max_bytes`; nesting and dots of a key are bounded before anything is built.
/// Errors: kInvalid "LINE: what"; kExhausted too long. Never throws. Source: TOML 1.0.
[[nodiscard]] Result<Node> parse(std::string_view text, std::size_t max_bytes);

}  // namespace berth::toml
