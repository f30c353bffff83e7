// Any bytes, cut at any place, are frames or a clean error: the decoder never reads beyond its input, never holds much
// more memory than came in, and gives the same frames whatever the cuts. Decoded messages survive a round trip.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "ttrpc/frame.h"
#include "ttrpc/wire.h"

namespace {

using berth::ttrpc::FrameDecoder;

void require(bool condition) {
  if (!condition) std::abort();
}

void check_messages(std::string_view data) {
  using namespace berth::ttrpc;
  if (const auto request = decode_request(data); request) {
    const auto frame = encode_request_frame(1, *request);
    require(frame.has_value());
    const auto again = decode_request(std::string_view(*frame).substr(kHeaderSize));
    require(again && again->payload == request->payload && again->timeout_nano == request->timeout_nano);
    require(again->service.size() == request->service.size() && again->metadata.size() == request->metadata.size());
  }
  if (const auto response = decode_response(data); response) {
    const auto frame = encode_response_frame(1, *response);
    require(frame.has_value());
    const auto again = decode_response(std::string_view(*frame).substr(kHeaderSize));
    require(again && again->code == response->code && again->payload == response->payload);
  }
}

// All frames as one text, ended by '!' when the decoder gave up.
std::string decode_all(std::string_view bytes, std::size_t step) {
  FrameDecoder decoder;
  std::string seen;
  std::size_t fed = 0;
  while (fed < bytes.size()) {
    std::string_view part = bytes.substr(fed, step);
    fed += part.size();
    while (true) {
      const auto frame = decoder.next(part);
      require(decoder.allocated() <= 2 * fed + 8192);
      if (!frame) return seen + '!';
      if (!*frame) break;
      const auto header = berth::ttrpc::encode_header((*frame)->header);
      seen.append(header.data(), header.size()).append((*frame)->data);
      check_messages((*frame)->data);
    }
    require(part.empty());
  }
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check_messages(bytes);
  const std::string whole = decode_all(bytes, size == 0 ? 1 : size);
  require(whole == decode_all(bytes, 1));
  require(whole == decode_all(bytes, 7));
  return 0;
}
