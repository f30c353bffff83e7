#include "stream/spdy_frame.h"

#include <algorithm>
#include <utility>

namespace berth::stream {
namespace {

constexpr std::size_t kHeadBytes = 8;
constexpr std::uint32_t kControlBit = 0x80000000;
constexpr std::uint32_t kVersion = 3;

std::uint8_t byte_at(std::string_view bytes, std::size_t offset) {
  return static_cast<std::uint8_t>(bytes[offset]);
}

void append_flags_and_size(std::string& out, std::uint8_t flags, std::size_t size) {
  append_spdy_word(out, static_cast<std::uint32_t>(flags) << 24 | static_cast<std::uint32_t>(size & 0xffffff));
}

}  // namespace

std::uint32_t spdy_word(std::string_view bytes, std::size_t offset) {
  return static_cast<std::uint32_t>(byte_at(bytes, offset)) << 24 |
         static_cast<std::uint32_t>(byte_at(bytes, offset + 1)) << 16 |
         static_cast<std::uint32_t>(byte_at(bytes, offset + 2)) << 8 | byte_at(bytes, offset + 3);
}

void append_spdy_word(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift & 0xff));
}

std::string spdy_control(SpdyType type, std::uint8_t flags, std::string_view payload) {
  std::string frame;
  frame.reserve(kHeadBytes + payload.size());
  append_spdy_word(frame, kControlBit | kVersion << 16 | static_cast<std::uint32_t>(type));
  append_flags_and_size(frame, flags, payload.size());
  frame.append(payload);
  return frame;
}

std::string spdy_data_head(std::uint32_t stream, std::uint8_t flags, std::size_t size) {
  std::string head;
  append_spdy_word(head, stream & kMaxSpdyStreamId);
  append_flags_and_size(head, flags, size);
  return head;
}

Result<> SpdyReader::feed(std::string_view bytes, SpdyFrames& frames) {
  while (!bytes.empty()) {
    if (!in_frame_) {
      const std::size_t wanted = std::min(kHeadBytes - head_.size(), bytes.size());
      head_.append(bytes.substr(0, wanted));
      bytes.remove_prefix(wanted);
      if (head_.size() < kHeadBytes) return {};
      BERTH_TRY(begin_frame(), "SPDY frame");
      // One without payload is whole by now.
      if (left_ > 0) continue;
    }
    BERTH_TRY(is_control_ ? take_control(bytes, frames) : take_data(bytes, frames), "SPDY frame");
  }
  return {};
}

Result<> SpdyReader::begin_frame() {
  word_ = spdy_word(head_, 0);
  flags_ = byte_at(head_, 4);
  left_ = spdy_word(head_, 4) & 0xffffff;
  head_.clear();
  is_control_ = (word_ & kControlBit) != 0;
  in_frame_ = true;
  if (!is_control_) return {};
  if ((word_ >> 16 & 0x7fff) != kVersion) return fail(Code::kInvalid, "another version than 3");
  if (left_ > kMaxSpdyControl) {
    return fail(Code::kExhausted, "a control frame of " + std::to_string(left_) + " bytes");
  }
  return {};
}

Result<> SpdyReader::take_data(std::string_view& bytes, SpdyFrames& frames) {
  const std::string_view piece = bytes.substr(0, left_);
  bytes.remove_prefix(piece.size());
  left_ -= piece.size();
  in_frame_ = left_ > 0;
  return frames.on_data(word_, piece, !in_frame_ && (flags_ & kSpdyFin) != 0);
}

Result<> SpdyReader::take_control(std::string_view& bytes, SpdyFrames& frames) {
  const std::string_view piece = bytes.substr(0, left_);
  bytes.remove_prefix(piece.size());
  left_ -= piece.size();
  in_frame_ = left_ > 0;
  // Most come in one piece and need no copy.
  if (!in_frame_ && control_.empty()) return frames.on_control(static_cast<SpdyType>(word_ & 0xffff), flags_, piece);
  control_.append(piece);
  if (in_frame_) return {};
  const std::string whole = std::exchange(control_, {});
  return frames.on_control(static_cast<SpdyType>(word_ & 0xffff), flags_, whole);
}

}  // namespace berth::stream
