#pragma once
#include <string>

#include "args.h"
#include "base/result.h"
#include "commands.h"
#include "engine/process/checkpoint.h"

namespace berth::oci {

/// What checkpoint and restore have in common of their flags. The images are in ./checkpoint without --image-path.
/// kInvalid: another word for --manage-cgroups-mode, another namespace for --empty-ns.
Result<engine::process::CriuOptions> criu_options(const Context& context);

/// "ADDRESS:PORT", "[v6 address]:PORT".
struct PageServer {
  std::string address;
  int port = 0;
};
Result<PageServer> parse_page_server(const std::string& text);

/// What the caller's standard streams lead to, for the state: with a terminal they are the container's own.
[[nodiscard]] std::vector<std::string> stdio_links(bool terminal);

}  // namespace berth::oci
