#include "network/json.h"

#include <exception>

namespace berth::network {
namespace {

// Before parsing, so that nothing is allocated for nonsense.
bool too_deep(std::string_view text, std::size_t limit) {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > limit) return true;
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return false;
}

// The library's own prefix and position names say nothing to people.
std::string reason(const char* what) {
  std::string text = what;
  if (const auto end = text.find("] "); end != std::string::npos) text.erase(0, end + 2);
  constexpr std::size_t kMost = 300;
  if (text.size() > kMost) text.resize(kMost);
  return text;
}

}  // namespace

Result<Json> parse_json_object(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.bytes) {
    return fail(Code::kExhausted, "JSON of more than " + std::to_string(limits.bytes) + " bytes");
  }
  if (too_deep(text, limits.depth)) {
    return fail(Code::kExhausted, "JSON nested deeper than " + std::to_string(limits.depth));
  }
  try {
    Json json = Json::parse(text);
    if (!json.is_object()) return fail(Code::kCorrupt, "not a JSON object");
    return json;
  } catch (const std::exception& e) {
    return fail(Code::kCorrupt, reason(e.what()));
  }
}

std::string json_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<std::string> json_string(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::string();
  if (!found->is_string()) return fail(Code::kInvalid, std::string(key) + " is not a string");
  return found->get<std::string>();
}

Result<const Json*> json_array(const Json& object, const char* key, std::size_t most) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return nullptr;
  if (!found->is_array()) return fail(Code::kInvalid, std::string(key) + " is not a list");
  if (found->size() > most) {
    return fail(Code::kExhausted, std::string(key) + " has more than " + std::to_string(most) + " items");
  }
  return &*found;
}

}  // namespace berth::network
