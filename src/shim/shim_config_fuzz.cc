#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/strings.h"
#include "shim/command_line.h"
#include "shim/rootfs.h"
#include "shim/sandbox_config.h"
#include "shim/stdio_uri.h"

// What the shim reads of others before any of it is used: sandbox.json, stdio members, root mounts, its arguments. The
// first byte says which.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace berth;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 4) {
    case 0:
      if (const auto config = shim::parse_sandbox_config(text); config) {
        for (const auto& [name, value] : config->sysctls) {
          const auto path = shim::sysctl_path(name);
          if (path && (path->find("..") == 0 || path->find("/../") != std::string::npos)) __builtin_trap();
        }
      }
      break;
    case 1:
      if (const auto uri = shim::parse_stdio_uri(text); uri && uri->kind != shim::StdioUri::Kind::kNull) {
        if (!uri->path.starts_with('/')) __builtin_trap();
      }
      break;
    case 2: {
      shim::RootMount mount;
      mount.type = "overlay";
      mount.source = "overlay";
      for (const std::string_view option : split(text, '\n')) mount.options.emplace_back(option);
      if (const auto plan = shim::plan_root(mount); plan) {
        for (const auto& lower : plan->lower) {
          if (!plan->bind && !lower.starts_with('/')) __builtin_trap();
        }
      }
      break;
    }
    default: {
      std::string copy(text);
      std::vector<const char*> words;
      for (std::size_t at = 0; at < copy.size();
           at = copy.find('\0', at) == std::string::npos ? copy.size() : copy.find('\0', at) + 1) {
        words.push_back(copy.c_str() + at);
      }
      ignore(shim::parse_command_line(words), "only that it returns");
    }
  }
  return 0;
}
