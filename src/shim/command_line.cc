#include "shim/command_line.h"

#include <string_view>

#include "base/ids.h"

namespace berth::shim {
namespace {

std::string* text_flag(CommandLine& line, std::string_view name) {
  if (name == "id") return &line.id;
  if (name == "namespace") return &line.name_space;
  if (name == "bundle") return &line.bundle;
  if (name == "address") return &line.address;
  if (name == "publish-binary") return &line.publish_binary;
  if (name == "socket") return &line.socket;
  return nullptr;
}

Result<> set_action(CommandLine& line, std::string_view word) {
  if (word == "serve") {
    line.action = Action::kServe;
  } else if (word == "start") {
    line.action = Action::kStart;
  } else if (word == "delete") {
    line.action = Action::kDelete;
  } else if (word == "features") {
    line.action = Action::kFeatures;
  } else {
    return fail(Code::kInvalid, "unknown action " + std::string(word.substr(0, 64)) + ": use start, serve or delete");
  }
  return {};
}

}  // namespace

Result<CommandLine> parse_command_line(std::span<const char* const> arguments) {
  CommandLine line;
  bool have_action = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string_view word = arguments[i];
    if (word.size() < 2 || word[0] != '-') {
      if (have_action) return fail(Code::kInvalid, "more than one action");
      BERTH_TRY(set_action(line, word), "command line");
      have_action = true;
      continue;
    }
    word.remove_prefix(word.starts_with("--") ? 2 : 1);
    const std::size_t equals = word.find('=');
    const std::string_view name = word.substr(0, equals);
    if (name == "v" || name == "version") {
      line.action = Action::kVersion;
      return line;
    }
    if (name == "info") {
      line.action = Action::kInfo;
      return line;
    }
    if (name == "debug") {
      line.debug = equals == std::string_view::npos || word.substr(equals + 1) == "true";
      continue;
    }
    std::string* const value = text_flag(line, name);
    if (value == nullptr) return fail(Code::kInvalid, "unknown flag -" + std::string(name.substr(0, 64)));
    if (equals != std::string_view::npos) {
      *value = word.substr(equals + 1);
    } else if (i + 1 < arguments.size()) {
      *value = arguments[++i];
    } else {
      return fail(Code::kInvalid, "flag -" + std::string(name) + " needs a value");
    }
  }
  if (!have_action) return fail(Code::kInvalid, "no action: use start, serve or delete");
  if (!valid_id(line.id)) return fail(Code::kInvalid, "-id: not an id");
  return line;
}

}  // namespace berth::shim
