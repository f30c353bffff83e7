#include "ttrpc/frame.h"

#include <algorithm>
#include <cstring>

namespace berth::ttrpc {
namespace {

constexpr std::size_t kFirstBuffer = 4096;

std::uint32_t load_u32(const char* bytes) {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

void store_u32(char* bytes, std::uint32_t value) {
  for (int i = 3; i >= 0; --i, value >>= 8) bytes[i] = static_cast<char>(value & 0xff);
}

}  // namespace

std::array<char, kHeaderSize> encode_header(const FrameHeader& header) {
  std::array<char, kHeaderSize> bytes;
  store_u32(bytes.data(), header.length);
  store_u32(bytes.data() + 4, header.stream_id);
  bytes[8] = static_cast<char>(header.type);
  bytes[9] = static_cast<char>(header.flags);
  return bytes;
}

FrameHeader decode_header(std::string_view bytes) {
  // NOLINTNEXTLINE(bugprone-suspicious-stringview-data-usage): the caller has all ten bytes
  return {load_u32(bytes.data()), load_u32(bytes.data() + 4), static_cast<FrameType>(bytes[8]),
          static_cast<std::uint8_t>(bytes[9])};
}

void FrameDecoder::release_delivered() {
  if (!delivered_) return;
  delivered_ = false;
  std::string().swap(partial_);
}

void FrameDecoder::store(std::string_view& input) {
  const std::size_t take = std::min<std::size_t>(header_.length - partial_.size(), input.size());
  const std::size_t need = partial_.size() + take;
  if (need > partial_.capacity()) {
    partial_.reserve(std::min<std::size_t>(header_.length, std::max({need, 2 * partial_.capacity(), kFirstBuffer})));
  }
  partial_.append(input.substr(0, take));
  input.remove_prefix(take);
}

Result<std::optional<Frame>> FrameDecoder::next(std::string_view& input) {
  release_delivered();
  if (discard_ > 0) {
    const std::size_t take = std::min<std::size_t>(discard_, input.size());
    input.remove_prefix(take);
    discard_ -= static_cast<std::uint32_t>(take);
  }
  if (discard_ > 0) return std::optional<Frame>();
  if (have_ < kHeaderSize) {
    const std::size_t take = std::min(kHeaderSize - have_, input.size());
    std::memcpy(raw_.data() + have_, input.data(), take);
    input.remove_prefix(take);
    have_ += take;
    if (have_ < kHeaderSize) return std::optional<Frame>();
    header_ = decode_header({raw_.data(), raw_.size()});
    if (header_.length > kMaxPlausible) {
      return fail(Code::kInvalid, "frame length " + std::to_string(header_.length) + " is not plausible");
    }
    if (header_.length > kMaxData) {
      have_ = 0;
      discard_ = header_.length;
      return Frame{header_, true, {}};
    }
  }
  if (partial_.empty() && input.size() >= header_.length) {
    const std::string_view data = input.substr(0, header_.length);
    input.remove_prefix(header_.length);
    have_ = 0;
    return Frame{header_, false, data};
  }
  store(input);
  if (partial_.size() < header_.length) return std::optional<Frame>();
  have_ = 0;
  delivered_ = true;
  return Frame{header_, false, partial_};
}

}  // namespace berth::ttrpc
