#include "args.h"

#include <algorithm>

namespace berth::oci {

namespace {
const FlagSpec* find(std::span<const FlagSpec> flags, std::string_view name) {
  for (const auto& flag : flags) {
    if (flag.name == name || (name.size() == 1 && flag.letter == name[0])) return &flag;
  }
  return nullptr;
}
}  // namespace

Result<Args> Args::parse(std::span<char* const> words, std::span<const FlagSpec> flags) {
  Args args;
  std::size_t at = 0;
  for (; at < words.size(); ++at) {
    std::string_view word = words[at];
    if (word == "--") {
      ++at;
      break;
    }
    if (word.size() < 2 || word[0] != '-') break;
    word.remove_prefix(word.starts_with("--") ? 2 : 1);
    const std::size_t equals = word.find('=');
    const std::string_view name = word.substr(0, equals);
    const auto* const flag = find(flags, name);
    if (flag == nullptr) return fail(Code::kInvalid, "flag provided but not defined: -" + std::string(name));
    if (equals != std::string_view::npos) {
      args.given_.emplace_back(flag->name, word.substr(equals + 1));
    } else if (!flag->takes_value) {
      args.given_.emplace_back(flag->name, "true");
    } else if (at + 1 < words.size()) {
      args.given_.emplace_back(flag->name, words[++at]);
    } else {
      return fail(Code::kInvalid, "flag needs an argument: -" + std::string(name));
    }
  }
  args.rest_ = words.subspan(at);
  return args;
}

bool Args::has(std::string_view name) const {
  return std::ranges::any_of(given_, [name](const auto& entry) { return entry.first == name; });
}

bool Args::on(std::string_view name) const {
  const auto text = value(name);
  return text && *text != "false" && *text != "0";
}

std::optional<std::string> Args::value(std::string_view name) const {
  for (auto entry = given_.rbegin(); entry != given_.rend(); ++entry) {
    if (entry->first == name) return entry->second;
  }
  return std::nullopt;
}

std::string Args::value_or(std::string_view name, std::string_view otherwise) const {
  return value(name).value_or(std::string(otherwise));
}

std::vector<std::string> Args::values(std::string_view name) const {
  std::vector<std::string> all;
  for (const auto& [given, value] : given_) {
    if (given == name) all.push_back(value);
  }
  return all;
}

}  // namespace berth::oci
