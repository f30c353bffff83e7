#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "stream/channels.h"

namespace berth::stream {

/// What one URL stands for, as the daemon prepared it.
struct SessionSpec {
  enum class Kind : std::uint8_t { kExec, kAttach, kPortForward };
  Kind kind = Kind::kExec;
  std::string shim_socket;  ///< absolute path
  std::string container_id;
  std::string process_json;            ///< kExec: OCI process object
  ChannelSet channels{};               ///< kExec, kAttach
  std::string stdin_path{};            ///< kAttach: the container's FIFO; empty: it has no stdin
  bool close_stdin = false;            ///< kAttach: the container's stdin ends with this session's
  bool host_network = false;           ///< kPortForward: in our own network namespace, not the shim's
  std::vector<std::uint16_t> ports{};  ///< kPortForward by the old WebSocket protocol
};

/// "exec", "attach", "portforward": the first part of the URL's path.
[[nodiscard]] std::string_view kind_name(SessionSpec::Kind kind);

}  // namespace berth::stream
