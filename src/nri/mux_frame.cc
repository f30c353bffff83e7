#include "nri/mux_frame.h"

#include <algorithm>

namespace berth::nri {
namespace {

// The read buffer of Go's bufio, through which its ttrpc takes the beginning of each message.
constexpr std::size_t kFirstFrame = 4096;

void put_u32(char* at, std::uint32_t value) {
  for (int i = 0; i < 4; ++i) at[i] = static_cast<char>(value >> (24 - 8 * i) & 0xFF);
}

std::uint32_t get_u32(const char* at) {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(at[i]);
  return value;
}

void append_frame(std::string& out, std::uint32_t connection, std::string_view bytes) {
  const auto header = encode_mux_header(connection, static_cast<std::uint32_t>(bytes.size()));
  out.append(header.data(), header.size());
  out.append(bytes);
}

}  // namespace

std::array<char, kMuxHeaderSize> encode_mux_header(std::uint32_t connection, std::uint32_t length) {
  std::array<char, kMuxHeaderSize> header{};
  put_u32(header.data(), connection);
  put_u32(header.data() + 4, length);
  return header;
}

void append_mux_frames(std::string& out, std::uint32_t connection, std::string_view message) {
  append_frame(out, connection, message.substr(0, kFirstFrame));
  if (message.size() > kFirstFrame) append_frame(out, connection, message.substr(kFirstFrame));
}

Result<std::optional<MuxPiece>> MuxDecoder::next(std::string_view& input) {
  while (!input.empty()) {
    if (left_ == 0) {
      const std::size_t taken = std::min(kMuxHeaderSize - have_, input.size());
      std::copy_n(input.begin(), taken, raw_.begin() + static_cast<std::ptrdiff_t>(have_));
      input.remove_prefix(taken);
      have_ += taken;
      if (have_ < kMuxHeaderSize) break;
      have_ = 0;
      connection_ = get_u32(raw_.data());
      left_ = get_u32(raw_.data() + 4);
      if (left_ > kMaxMuxPayload) {
        return fail(Code::kInvalid, "frame of " + std::to_string(left_) + " bytes: this is no NRI plugin");
      }
      continue;
    }
    const MuxPiece piece{connection_, input.substr(0, left_)};
    input.remove_prefix(piece.bytes.size());
    left_ -= static_cast<std::uint32_t>(piece.bytes.size());
    return piece;
  }
  return std::nullopt;
}

}  // namespace berth::nri
