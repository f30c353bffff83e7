#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

/// How NRI carries two ttrpc connections, one for each direction of calling, on one socket: frames of a connection id
/// and a length, both u32 in network order, then the bytes. Source: pkg/net/multiplex of containerd/nri 0.12.
namespace berth::nri {

inline constexpr std::size_t kMuxHeaderSize = 8;
/// Where the plugin serves and the runtime calls.
inline constexpr std::uint32_t kPluginConnection = 1;
/// Where the runtime serves and the plugin calls.
inline constexpr std::uint32_t kRuntimeConnection = 2;
/// The longest frame: what plugins of before 0.7 may send; later ones keep to one ttrpc message, a quarter of it. More
/// is no frame of this protocol.
inline constexpr std::uint32_t kMaxMuxPayload = 16U << 20;

/// Some bytes for one of the connections.
struct MuxPiece {
  std::uint32_t connection = 0;
  std::string_view bytes;
};

/// Takes a byte stream apart. Holds no more than a header: what has come of a frame is handed on as it comes, so a
/// length costs nothing. Not thread-safe.
class MuxDecoder final {
 public:
  /// Takes bytes from the front of `input` and returns the next piece, which points into it and is not empty, or
  /// nothing when `input` is used up. Ids other than the two are for the caller to drop.
  /// Errors: kInvalid a length over kMaxMuxPayload; the stream cannot be read on.
  [[nodiscard]] Result<std::optional<MuxPiece>> next(std::string_view& input);
  /// True between two frames: the stream may end here.
  [[nodiscard]] bool at_boundary() const { return have_ == 0 && left_ == 0; }

 private:
  std::array<char, kMuxHeaderSize> raw_{};
  std::size_t have_ = 0;  // header bytes that came
  std::uint32_t connection_ = 0;
  std::uint32_t left_ = 0;  // payload bytes to come
};

[[nodiscard]] std::array<char, kMuxHeaderSize> encode_mux_header(std::uint32_t connection, std::uint32_t length);

/// Appends `message`, one whole ttrpc frame with its header, to `out` in one or two frames. The cut matters: a plugin
/// in Go reads a frame of ours with one read into whatever buffer its ttrpc offers, which is one of 4096 bytes for the
/// first and takes the exact rest for the second, and closes the connection when a frame does not fit.
void append_mux_frames(std::string& out, std::uint32_t connection, std::string_view message);

}  // namespace berth::nri
