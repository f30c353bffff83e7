#include "config/toml_file.h"

#include <algorithm>
#include <exception>

#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_MAX_NESTED_VALUES 16
#include <toml++/toml.h>

namespace berth::config {

namespace {

constexpr std::size_t kMaxDepth = 3;         // handlers.NAME.key
constexpr std::size_t kMaxDotsPerLine = 64;  // outside strings and comments

/// Each dot of a key makes a table in a table, and the parser's trees are freed by recursion: a key of a hundred
/// thousand dots would end the process. So dots are counted first. A line ends a key, and strings are the only place
/// where dots are harmless. Gives the line of the fault, or 0.
std::size_t line_with_too_many_dots(std::string_view text) {
  std::size_t line = 1;
  std::size_t dots = 0;
  const auto starts = [&text](std::size_t at, std::string_view what) { return text.substr(at, what.size()) == what; };
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '\n') {
      ++line;
      dots = 0;
    } else if (c == '#') {
      while (at + 1 < text.size() && text[at + 1] != '\n') ++at;
    } else if (c == '.') {
      if (++dots > kMaxDotsPerLine) return line;
    } else if (c == '"' || c == '\'') {
      const std::string_view quotes = c == '"' ? "\"\"\"" : "'''";
      const bool multi_line = starts(at, quotes);
      for (at += multi_line ? 3 : 1; at < text.size(); ++at) {
        if (text[at] == '\n') {
          if (!multi_line) break;
          ++line;
        }
        if (c == '"' && text[at] == '\\') {
          // What is escaped ends nothing; a line break that is escaped still counts.
          if (++at < text.size() && text[at] == '\n') ++line;
          continue;
        }
        if (text[at] != c || (multi_line && !starts(at, quotes))) continue;
        if (multi_line) at += 2;
        // Up to two quotes may stand before the closing three: """a""""".
        for (int more = 0; multi_line && more < 2 && at + 1 < text.size() && text[at + 1] == c; ++more) ++at;
        break;
      }
      if (at < text.size() && text[at] == '\n') --at;  // an unfinished string: let the line break be seen
    }
  }
  return 0;
}

std::string_view type_name(toml::node_type type) {
  switch (type) {
    case toml::node_type::table:
      return "a section";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    case toml::node_type::date:
      return "a date";
    case toml::node_type::time:
      return "a time";
    case toml::node_type::date_time:
      return "a date and time";
    case toml::node_type::none:
      break;
  }
  return "nothing";
}

Value value_of(const toml::node& node) {
  Value value;
  value.type = type_name(node.type());
  if (const auto* text = node.as_string()) {
    value.kind = Value::Kind::kString;
    value.text = text->get();
  } else if (const auto* number = node.as_integer()) {
    value.kind = Value::Kind::kInteger;
    value.number = number->get();
  } else if (const auto* flag = node.as_boolean()) {
    value.kind = Value::Kind::kBool;
    value.flag = flag->get();
  } else if (const auto* list = node.as_array()) {
    value.kind = Value::Kind::kList;
    for (const auto& item : *list) {
      if (const auto* entry = item.as_string()) {
        value.list.push_back(entry->get());
      } else {
        value.list_of_strings = false;
      }
    }
  } else if (node.is_table()) {
    value.kind = Value::Kind::kTable;
  }
  return value;
}

void collect(const toml::table& table, std::vector<std::string>& path, std::vector<Setting>& settings) {
  for (const auto& [key, node] : table) {
    path.emplace_back(key.str());
    // A key's own line: for a value that goes on over several lines the place where it begins.
    const auto line = std::max(key.source().begin.line, toml::source_index{1});
    settings.push_back({path, line, value_of(node)});
    if (const auto* inner = node.as_table(); inner != nullptr && path.size() < kMaxDepth) {
      collect(*inner, path, settings);
    }
    path.pop_back();
  }
}

Result<std::vector<Setting>> parse(std::string_view text) {
  const auto document = toml::parse(text, std::string_view{});
  if (document.failed()) {
    const auto& error = document.error();
    const auto line = std::max(error.source().begin.line, toml::source_index{1});
    return fail(Code::kInvalid, std::to_string(line) + ": " + std::string(error.description()));
  }
  std::vector<Setting> settings;
  std::vector<std::string> path;
  collect(document.table(), path, settings);
  std::stable_sort(settings.begin(), settings.end(), [](const auto& a, const auto& b) { return a.line < b.line; });
  return settings;
}

}  // namespace

Result<std::vector<Setting>> read_toml(std::string_view text) {
  if (text.size() > kMaxFileBytes) {
    return fail(Code::kExhausted, "1: the file is larger than " + std::to_string(kMaxFileBytes) + " bytes");
  }
  if (const std::size_t line = line_with_too_many_dots(text); line != 0) {
    return fail(Code::kInvalid, std::to_string(line) + ": a key has too many dots");
  }
  try {
    return parse(text);
  } catch (const std::exception& error) {
    return fail(Code::kInternal, std::string("1: the TOML parser failed: ").append(error.what()));
  }
}

}  // namespace berth::config
