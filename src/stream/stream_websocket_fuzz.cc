// Any messages on a WebSocket connection, in pieces of any size, are a remote command's streams or are not heard: what
// is heard does not depend on how a message is cut.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "stream/test_wire.h"

namespace {

using namespace berth::stream;

std::string play(std::string_view input, std::string_view protocol, bool terminal, std::size_t step) {
  const auto wire = std::make_shared<TestWire>();
  const auto session = std::make_shared<TestSession>();
  const auto channels =
      websocket_channels(wire, {.in = true, .out = true, .err = !terminal, .terminal = terminal}, protocol);
  channels->start(session);
  // Each message begins with its length.
  while (!input.empty()) {
    const std::size_t size = std::min<std::size_t>(static_cast<std::uint8_t>(input.front()), input.size() - 1);
    const std::string_view message = input.substr(1, size);
    input.remove_prefix(1 + size);
    for (std::size_t at = 0; at == 0 || at < message.size(); at += step) {
      wire->receive(message.substr(at, step), at == 0);
    }
  }
  if (session->gone > 1) std::abort();
  channels->finish({.exit_code = 0, .failure = {}});
  return wire->sent_bytes() + "|" + session->input + "|" + session->sizes + "|" + std::to_string(session->ends);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static constexpr std::array<std::string_view, 5> kProtocols = {
      "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io"};
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string_view protocol = kProtocols[data[0] / 2 % kProtocols.size()];
  const bool terminal = (data[0] & 1) != 0;
  const std::string whole = play(input, protocol, terminal, 256);
  for (const std::size_t step : {1UL, 3UL}) {
    // A base64 message that is broken somewhere gives what came before the break, which depends on the pieces.
    if (play(input, protocol, terminal, step) != whole && protocol.find("base64") == std::string_view::npos)
      std::abort();
  }
  return 0;
}
