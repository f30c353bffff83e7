#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace berth::shim {

enum class Action : std::uint8_t { kServe, kStart, kDelete, kFeatures, kVersion, kInfo };

struct CommandLine {
  Action action = Action::kServe;
  std::string id;
  std::string name_space;
  std::string bundle;   ///< empty: the working folder
  std::string address;  ///< containerd's own socket; kept for the events
  std::string publish_binary;
  std::string socket;  ///< of `serve`: where to listen; empty: shim.sock in the working folder
  bool debug = false;
};

/// containerd's convention: flags as Go's flag package takes them (`-id X`, `--id=X`), then the action. `arguments` is
/// without the program's name. Errors: kInvalid, naming what is wrong.
[[nodiscard]] Result<CommandLine> parse_command_line(std::span<const char* const> arguments);

}  // namespace berth::shim
