#include "config/toml_file.h"

#include <algorithm>
#include <tuple>

#include "toml/toml.h"

namespace berth::config {

namespace {

constexpr std::size_t kMaxDepth = 3;  // handlers.NAME.key

Value value_of(toml::Node& node) {
  using Kind = toml::Node::Kind;
  Value value;
  value.type = node.type;
  value.text = std::move(node.text);
  value.number = node.number;
  value.flag = node.flag;
  switch (node.kind) {
    case Kind::kString:
      value.kind = Value::Kind::kString;
      break;
    case Kind::kInteger:
      value.kind = Value::Kind::kInteger;
      break;
    case Kind::kBool:
      value.kind = Value::Kind::kBool;
      break;
    case Kind::kList:
      value.kind = Value::Kind::kList;
      for (toml::Node& item : node.items) {
        if (item.kind == Kind::kString) {
          value.list.push_back(std::move(item.text));
        } else {
          value.list_of_strings = false;
        }
      }
      break;
    case Kind::kTable:
      value.kind = Value::Kind::kTable;
      break;
    case Kind::kOther:
      break;
  }
  return value;
}

void collect(toml::Node& table, std::vector<std::string>& path, std::vector<Setting>& settings) {
  for (toml::Member& member : table.members) {
    path.push_back(member.key);
    settings.push_back({path, member.line, value_of(member.value)});
    if (path.size() < kMaxDepth) collect(member.value, path, settings);
    path.pop_back();
  }
}

}  // namespace

Result<std::vector<Setting>> read_toml(std::string_view text) {
  auto document = toml::parse(text, kMaxFileBytes);
  if (!document) return fail(std::move(document).error());
  std::vector<Setting> settings;
  std::vector<std::string> path;
  collect(*document, path, settings);
  // By line; on one line a table comes before what it holds, because its path is a prefix.
  std::sort(settings.begin(), settings.end(),
            [](const Setting& a, const Setting& b) { return std::tie(a.line, a.path) < std::tie(b.line, b.path); });
  return settings;
}

}  // namespace berth::config
