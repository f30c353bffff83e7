#pragma once
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

/// JSON from foreign hands, for this library's .cc files only.
namespace berth::network {

using Json = nlohmann::json;

struct JsonLimits {
  std::size_t bytes = 256U << 10;
  std::size_t depth = 32;  ///< of nested arrays and objects
};

/// One JSON object and nothing behind it. Errors: kExhausted too long or too deep; kCorrupt not JSON (the text says
/// where) or not an object.
Result<Json> parse_json_object(std::string_view text, const JsonLimits& limits);
/// Compact text. Bytes that are no UTF-8 (in names from a request) become U+FFFD.
std::string json_text(const Json& json);

/// The member as text, "" when absent; kInvalid when it is something else.
Result<std::string> json_string(const Json& object, const char* key);
/// The member as an array, null when absent; kInvalid when it is something else or has more than `most` items.
Result<const Json*> json_array(const Json& object, const char* key, std::size_t most);

}  // namespace berth::network
