#include "config/config.h"
#include "config/schema.h"

namespace berth::config {

namespace {

/// A TOML basic string. Values are UTF-8: the TOML parser takes nothing else.
std::string quoted(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out.append({'\\', c});
    } else if (byte < 0x20 || byte == 0x7F) {
      out.append("\\u00").append({kHex[byte >> 4], kHex[byte & 0xF]});
    } else {
      out.push_back(c);
    }
  }
  return out.append("\"");
}

std::string text_of(const std::string& value) {
  return quoted(value);
}
std::string text_of(bool value) {
  return value ? "true" : "false";
}
std::string text_of(unsigned value) {
  return std::to_string(value);
}
std::string text_of(std::uint64_t value) {
  return std::to_string(value);
}
std::string text_of(const std::vector<std::string>& list) {
  std::string out = "[";
  for (const auto& entry : list) out.append(out.size() == 1 ? "" : ", ").append(quoted(entry));
  return out.append("]");
}

}  // namespace

std::string Loaded::dump() const {
  // Bound to a copy: the table of keys is for writing too.
  Config copy = config;
  std::string out;
  const auto line = [&](const Key& key, const std::string& path) {
    const auto found = origins.find(path);
    std::string origin = found == origins.end() ? "default" : found->second;
    for (char& c : origin) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';  // a file name cannot end the comment
    }
    out.append(key.name).append(" = ");
    out.append(std::visit([](const auto* value) { return text_of(*value); }, key.value));
    out.append("  # ").append(origin).append("\n");
  };
  std::string_view section;
  for (const Key& key : keys_of(copy)) {
    if (key.section != section) out.append("\n[").append(key.section).append("]\n");
    section = key.section;
    line(key, key.path());
  }
  for (auto& [name, handler] : copy.handlers) {
    out.append("\n[handlers.").append(name).append("]\n");
    for (const Key& key : keys_of(handler)) {
      if (!std::get<std::string*>(key.value)->empty()) {
        line(key, "handlers." + name + "." + std::string(key.name));
      }
    }
  }
  return out;
}

}  // namespace berth::config
