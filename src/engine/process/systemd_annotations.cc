#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>

#include "base/strings.h"
#include "engine/process/systemd_unit.h"

// GVariant's text form, as far as properties of units need it. Source: GLib's "GVariant Text Format".
namespace berth::engine::process {

namespace {

constexpr std::string_view kPrefix = "org.systemd.property.";
constexpr std::size_t kMaxText = 4096;

struct Value {
  std::string type;
  std::string text;
};

struct TypeWord {
  std::string_view word;
  std::string_view type;
};
constexpr std::array<TypeWord, 12> kTypeWords{{{"boolean", "b"},
                                               {"byte", "y"},
                                               {"int16", "n"},
                                               {"uint16", "q"},
                                               {"int32", "i"},
                                               {"uint32", "u"},
                                               {"int64", "x"},
                                               {"uint64", "t"},
                                               {"double", "d"},
                                               {"string", "s"},
                                               {"objectpath", "o"},
                                               {"as", "as"}}};

/// 'text' or "text" at the start of `text`, which is moved behind it.
std::optional<std::string> take_string(std::string_view& text) {
  if (text.empty() || (text.front() != '\'' && text.front() != '"')) return std::nullopt;
  const char quote = text.front();
  std::string out;
  for (std::size_t at = 1; at < text.size(); ++at) {
    char c = text[at];
    if (c == quote) {
      text.remove_prefix(at + 1);
      return out;
    }
    if (c == '\\') {
      if (++at == text.size()) break;
      c = text[at] == 'n' ? '\n' : text[at] == 't' ? '\t' : text[at];
      // A letter that means something else in C is none of the few that are read here.
      if (c == text[at] && c != '\\' && c != '\'' && c != '"') return std::nullopt;
    }
    if (c == '\0') return std::nullopt;
    out.push_back(c);
  }
  return std::nullopt;
}

/// ['a', 'b']: a line each, so no text of several lines.
std::optional<Value> take_list(std::string_view text) {
  if (!text.starts_with('[') || !text.ends_with(']')) return std::nullopt;
  text = trim(text.substr(1, text.size() - 2));
  Value list{"as", ""};
  bool first = true;
  while (!text.empty()) {
    if (!first) {
      if (text.front() != ',') return std::nullopt;
      text = trim(text.substr(1));
    }
    const auto entry = take_string(text);
    if (!entry || entry->empty() || entry->find('\n') != std::string::npos) return std::nullopt;
    list.text.append(first ? "" : "\n").append(*entry);
    first = false;
    text = trim(text);
  }
  return list;
}

bool is_integer(std::string_view text) {
  return parse_number<std::int64_t>(text) || parse_number<std::uint64_t>(text);
}

bool is_double(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size() && number > -1e300 && number < 1e300;
}

std::optional<Value> parse_value(std::string_view text) {
  text = trim(text);
  if (text.empty() || text.size() > kMaxText) return std::nullopt;
  std::string_view type;
  const std::size_t space = text.find(' ');
  const std::string_view word = text.substr(0, space);
  for (const auto& entry : kTypeWords) {
    // "@t 5" is the other way to write "uint64 5".
    if (space != std::string_view::npos &&
        (word == entry.word || (word.starts_with('@') && word.substr(1) == entry.type))) {
      type = entry.type;
      text = trim(text.substr(space));
    }
  }
  std::optional<Value> value;
  if (text == "true" || text == "false") {
    value = Value{"b", std::string(text)};
  } else if (text.starts_with('[')) {
    value = take_list(text);
  } else if (auto rest = text; const auto quoted = take_string(rest)) {
    if (!rest.empty()) return std::nullopt;
    value = Value{type == "o" ? "o" : "s", *quoted};
  } else if (is_integer(text)) {
    // Without a word it is an int32.
    const bool number = type.empty() || std::string_view("ynqiuxtd").find(type) != std::string_view::npos;
    value = Value{number && !type.empty() ? std::string(type) : "i", std::string(text)};
  } else if (is_double(text)) {
    value = Value{"d", std::string(text)};
  }
  if (value && !type.empty() && value->type != type) return std::nullopt;
  return value;
}

/// A number of seconds as microseconds; a value of another type is none.
std::optional<Value> microseconds(const Value& seconds) {
  double number = 0;
  const char* const end = seconds.text.data() + seconds.text.size();
  const auto [stop, error] = std::from_chars(seconds.text.data(), end, number);
  constexpr double kMicro = 1e6;
  constexpr double kMost = 1e18;
  const bool numeric = seconds.type != "s" && error == std::errc{} && stop == end;
  if (!numeric || number < 0 || number * kMicro > kMost) return std::nullopt;
  return Value{"t", std::to_string(static_cast<std::uint64_t>(number * kMicro))};
}

bool is_property_name(std::string_view name) {
  return name.size() > 1 && std::ranges::all_of(name, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
         });
}

}  // namespace

Result<UnitProperties> annotation_properties(const spec::StringMap& annotations) {
  UnitProperties properties;
  for (const auto& [key, text] : annotations) {
    if (!key.starts_with(kPrefix)) continue;
    std::string name = key.substr(kPrefix.size());
    if (!is_property_name(name)) return fail(Code::kInvalid, "annotation " + key + ": no name of a property");
    auto value = parse_value(text);
    if (value && name.ends_with("Sec") && !name.ends_with("USec")) {
      name.replace(name.size() - 3, 3, "USec");
      value = microseconds(*value);
    }
    if (!value) return fail(Code::kInvalid, "annotation " + key + ": \"" + text + "\" is no value that is read here");
    properties.push_back(name.append(":").append(value->type).append("=").append(value->text));
  }
  return properties;
}

}  // namespace berth::engine::process
