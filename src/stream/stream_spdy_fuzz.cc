// Any bytes on a SPDY connection, cut at any place, are a remote command's streams or the session's end: nothing is
// read beyond the input, and what is heard and answered does not depend on the cuts. Header blocks are compressed, so
// the input is a script of frames; one of its commands sends bytes as they are.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "stream/spdy_session.h"
#include "stream/test_wire.h"

namespace {

using namespace berth::stream;

class Script {
 public:
  explicit Script(std::string_view bytes) : bytes_(bytes) {}
  [[nodiscard]] bool over() const { return bytes_.empty(); }
  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const auto value = static_cast<std::uint8_t>(bytes_.front());
    bytes_.remove_prefix(1);
    return value;
  }
  std::string_view text() {
    const auto taken = bytes_.substr(0, byte());
    bytes_.remove_prefix(std::min(taken.size(), bytes_.size()));
    return taken;
  }

 private:
  std::string_view bytes_;
};

std::string syn_stream(Script& script, SpdyHeaderEncoder& encoder) {
  static constexpr std::array<std::string_view, 7> kTypes = {"stdin",  "stdout", "stderr", "error",
                                                             "resize", "data",   ""};
  SpdyHeaders headers = {{"streamtype", std::string(kTypes[script.byte() % kTypes.size()])}};
  const unsigned more = script.byte() % 4;
  for (unsigned i = 0; i < more; ++i) {
    const std::string name(script.text());
    headers.emplace_back(name, std::string(script.text()));
  }
  std::string payload;
  append_spdy_word(payload, script.byte());
  payload.append(6, '\0');
  payload.append(encoder.encode(headers));
  return spdy_control(SpdyType::kSynStream, script.byte(), payload);
}

std::string connection_of(std::string_view input) {
  Script script(input);
  SpdyHeaderEncoder encoder;
  std::string bytes;
  while (!script.over()) {
    switch (script.byte() % 4) {
      case 0:
        bytes += syn_stream(script, encoder);
        break;
      case 1: {
        const std::uint8_t id = script.byte();
        const std::uint8_t flags = script.byte();
        const auto text = script.text();
        bytes += spdy_data_head(id, flags, text.size());
        bytes += text;
        break;
      }
      case 2: {
        const auto type = static_cast<SpdyType>(script.byte() % 12);
        const std::uint8_t flags = script.byte();
        bytes += spdy_control(type, flags, script.text());
        break;
      }
      default:
        bytes += script.text();
    }
  }
  return bytes;
}

std::string play(std::string_view bytes, std::size_t step, bool terminal) {
  const auto wire = std::make_shared<TestWire>();
  const auto session = std::make_shared<TestSession>();
  const auto channels =
      spdy_channels(wire, {.in = true, .out = true, .err = !terminal, .terminal = terminal}, "v4.channel.k8s.io");
  channels->start(session);
  for (std::size_t at = 0; at < bytes.size(); at += step) wire->receive(bytes.substr(at, step));
  if (session->gone > 1) std::abort();
  channels->send(Channel::kStdout, "output");
  channels->finish({.exit_code = 1, .failure = {}});
  return wire->sent_bytes() + "|" + session->input + "|" + session->sizes + "|" + std::to_string(session->ends) +
         session->reason;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || size > (64U << 10)) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const bool terminal = (data[0] & 1) != 0;
  const std::string bytes = (data[0] & 2) != 0 ? std::string(input.substr(1)) : connection_of(input.substr(1));
  const std::string whole = play(bytes, std::max<std::size_t>(bytes.size(), 1), terminal);
  for (const std::size_t step : {1UL, 7UL}) {
    if (play(bytes, step, terminal) != whole) std::abort();
  }
  return 0;
}
