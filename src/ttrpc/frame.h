#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace berth::ttrpc {

// Source of the numbers in this file: PROTOCOL.md and channel.go of containerd/ttrpc.

inline constexpr std::size_t kHeaderSize = 10;
/// The longest data that one frame may carry.
inline constexpr std::uint32_t kMaxData = 4U << 20;
/// A length beyond this is no message that is too long but something that is not ttrpc.
inline constexpr std::uint32_t kMaxPlausible = 64U << 20;

enum class FrameType : std::uint8_t {
  kRequest = 1,
  kResponse = 2,
  kData = 3
};  // others exist on the wire: keep and ignore
inline constexpr std::uint8_t kFlagRemoteClosed = 1;
inline constexpr std::uint8_t kFlagRemoteOpen = 2;
inline constexpr std::uint8_t kFlagNoData = 4;

struct FrameHeader {
  std::uint32_t length = 0;
  std::uint32_t stream_id = 0;
  FrameType type = FrameType::kRequest;
  std::uint8_t flags = 0;
};

[[nodiscard]] std::array<char, kHeaderSize> encode_header(const FrameHeader& header);
/// `bytes`: at least kHeaderSize.
[[nodiscard]] FrameHeader decode_header(std::string_view bytes);

struct Frame {
  FrameHeader header;
  /// The header promises more than kMaxData. `data` is empty and the decoder throws the bytes away as they come.
  bool oversized = false;
  std::string_view data;
};

/// Cuts a byte stream into frames. Memory follows the bytes that came, never the length that a header promises, and is
/// given back with each frame. Not thread-safe.
class FrameDecoder final {
 public:
  /// Takes bytes from the front of `input` and returns the next frame, or nothing when `input` is used up.
  /// The frame's data point into `input` or into the decoder: valid until the next call.
  /// Errors: kInvalid a length over kMaxPlausible; the stream cannot be read on.
  [[nodiscard]] Result<std::optional<Frame>> next(std::string_view& input);
  /// True between two frames: the stream may end here.
  [[nodiscard]] bool at_boundary() const { return have_ == 0 && discard_ == 0; }
  /// Bytes that the decoder holds allocated.
  [[nodiscard]] std::size_t allocated() const { return partial_.capacity(); }

 private:
  void release_delivered();
  void store(std::string_view& input);

  std::array<char, kHeaderSize> raw_{};
  std::size_t have_ = 0;  // header bytes that came; kHeaderSize while data are collected
  FrameHeader header_;
  std::uint32_t discard_ = 0;
  bool delivered_ = false;
  std::string partial_;
};

}  // namespace berth::ttrpc
