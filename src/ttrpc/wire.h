#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "ttrpc/frame.h"

namespace berth::ttrpc {

/// A ttrpc Request message; the views point into the bytes that it was decoded from. Strings may be any bytes.
/// Source: request.proto of containerd/ttrpc.
struct RequestView {
  std::string_view service;
  std::string_view method;
  std::string_view payload;
  std::int64_t timeout_nano = 0;  ///< 0: none
  std::vector<std::pair<std::string_view, std::string_view>> metadata;
};

/// A ttrpc Response message; the same rules. `code` is a gRPC status code, 0 for success.
struct ResponseView {
  std::int32_t code = 0;
  std::string_view message;
  std::string_view payload;
};

inline constexpr std::size_t kMaxMetadata = 128;

/// Errors: kInvalid the bytes are no such protobuf message, or have more than kMaxMetadata pairs.
/// Unknown fields are skipped; of a repeated single field the last one counts.
[[nodiscard]] Result<RequestView> decode_request(std::string_view bytes);
[[nodiscard]] Result<ResponseView> decode_response(std::string_view bytes);

/// A whole frame, header included. Errors: kExhausted the data would be longer than kMaxData.
/// Text fields are sent as valid UTF-8, which other implementations insist on: bad bytes become '?'.
[[nodiscard]] Result<std::string> encode_request_frame(std::uint32_t stream_id, const RequestView& request);
[[nodiscard]] Result<std::string> encode_response_frame(std::uint32_t stream_id, const ResponseView& response);

}  // namespace berth::ttrpc
