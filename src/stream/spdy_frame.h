#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

// Frames of SPDY/3.1 (draft-mbelshe-httpbis-spdy-00, 2.2 and 2.6), as far as remote commands and port forwards use
// them.
namespace berth::stream {

/// Control frames by number; others may come and are ignored.
enum class SpdyType : std::uint16_t {
  kSynStream = 1,
  kSynReply = 2,
  kRstStream = 3,
  kSettings = 4,
  kPing = 6,
  kGoAway = 7,
  kHeaders = 8,
  kWindowUpdate = 9,
};

inline constexpr std::uint8_t kSpdyFin = 1;                ///< the sender's last frame on the stream
inline constexpr std::size_t kMaxSpdyControl = 64U << 10;  ///< payload of a control frame
inline constexpr std::uint32_t kMaxSpdyStreamId = 0x7fffffff;

/// Who takes frames out of a SpdyReader. A failure ends the reading.
class SpdyFrames {
 public:
  SpdyFrames() = default;
  SpdyFrames(const SpdyFrames&) = delete;
  SpdyFrames& operator=(const SpdyFrames&) = delete;
  SpdyFrames(SpdyFrames&&) = delete;
  SpdyFrames& operator=(SpdyFrames&&) = delete;
  virtual ~SpdyFrames() = default;

  /// `payload`: the whole frame behind its length, at most kMaxSpdyControl bytes; valid during the call.
  virtual Result<> on_control(SpdyType type, std::uint8_t flags, std::string_view payload) = 0;
  /// A piece of a data frame, in order; may be empty. `fin` with the last piece of the stream's last frame.
  virtual Result<> on_data(std::uint32_t stream, std::string_view bytes, bool fin) = 0;
};

/// Cuts a byte stream into frames. Control frames are put together, data frames are passed on as they come, so no more
/// than kMaxSpdyControl bytes are held.
class SpdyReader final {
 public:
  /// Errors: kInvalid another version; kExhausted a control frame that is too large; what `frames` failed with. After
  /// an error the reader must not be fed again.
  [[nodiscard]] Result<> feed(std::string_view bytes, SpdyFrames& frames);

 private:
  Result<> begin_frame();
  Result<> take_data(std::string_view& bytes, SpdyFrames& frames);
  Result<> take_control(std::string_view& bytes, SpdyFrames& frames);

  std::string head_;     // of a frame, until it is whole
  std::string control_;  // payload of a control frame, until it is whole
  bool in_frame_ = false;
  bool is_control_ = false;
  std::uint32_t word_ = 0;  // the first of the head: version and type, or the stream
  std::uint8_t flags_ = 0;
  std::size_t left_ = 0;  // of the frame's payload
};

/// Big endian, at `offset`, which must be there.
[[nodiscard]] std::uint32_t spdy_word(std::string_view bytes, std::size_t offset);
void append_spdy_word(std::string& out, std::uint32_t value);

/// A whole control frame. `payload`: below 16 MiB.
[[nodiscard]] std::string spdy_control(SpdyType type, std::uint8_t flags, std::string_view payload);
/// The head of a data frame with `size` bytes, below 16 MiB.
[[nodiscard]] std::string spdy_data_head(std::uint32_t stream, std::uint8_t flags, std::size_t size);

}  // namespace berth::stream
