// What a plugin sends: the frames of the mux, and in each of its two connections ttrpc. The first byte says how large
// the pieces are in which the rest comes. However it is cut, the same comes out; and what we send in frames comes out
// whole.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "nri/mux_frame.h"
#include "ttrpc/frame.h"

namespace {

struct Taken {
  bool broken = false;
  std::array<std::string, 3> bytes;  // by connection: 1, 2, others
};

Taken take(std::string_view input, std::size_t step) {
  Taken taken;
  berth::nri::MuxDecoder decoder;
  while (!input.empty()) {
    std::string_view part = input.substr(0, step);
    input.remove_prefix(part.size());
    while (true) {
      const auto piece = decoder.next(part);
      if (!piece) {
        taken.broken = true;
        return taken;
      }
      if (!*piece) break;
      if ((**piece).bytes.empty()) std::abort();
      const std::uint32_t id = (**piece).connection;
      taken.bytes[id == 1 || id == 2 ? id - 1 : 2].append((**piece).bytes);
    }
  }
  return taken;
}

void check_round_trip(std::string_view message) {
  std::string frames;
  berth::nri::append_mux_frames(frames, berth::nri::kPluginConnection, message);
  const Taken back = take(frames, frames.size());
  if (back.broken || back.bytes[0] != message) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data + 1), size - 1);
  const Taken whole = take(input, size);
  const Taken cut = take(input, static_cast<std::size_t>(data[0]) + 1);
  if (whole.broken != cut.broken || whole.bytes != cut.bytes) std::abort();
  for (std::size_t i = 0; i < 2; ++i) {
    berth::ttrpc::FrameDecoder decoder;
    std::string_view left(whole.bytes[i]);
    while (true) {
      const auto frame = decoder.next(left);
      if (!frame || !*frame) break;
    }
  }
  check_round_trip(input);
  return 0;
}
