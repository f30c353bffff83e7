#include "base/proto_wire.h"

#include <limits>

namespace berth::proto {

namespace {

constexpr std::size_t kMaxVarint = 10;

std::optional<std::uint64_t> take_varint(std::string_view& in) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < kMaxVarint && i < in.size(); ++i) {
    const auto byte = static_cast<unsigned char>(in[i]);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << (7 * i);
    if ((byte & 0x80) == 0) {
      in.remove_prefix(i + 1);
      return value;
    }
  }
  return std::nullopt;
}

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

}  // namespace

std::optional<Field> take_field(std::string_view& in) {
  const auto key = take_varint(in);
  if (!key || (*key >> 3) == 0 || *key > std::numeric_limits<std::uint32_t>::max()) return std::nullopt;
  Field field{*key >> 3, static_cast<std::uint8_t>(*key & 7), 0, {}};
  std::uint64_t size = 0;
  if (field.type == kVarint || field.type == kBytes) {
    const auto number = take_varint(in);
    if (!number) return std::nullopt;
    field.varint = *number;
    size = field.type == kBytes ? *number : 0;
  } else if (field.type == kFixed64) {
    size = 8;
  } else if (field.type == kFixed32) {
    size = 4;
  } else {
    return std::nullopt;
  }
  if (size > in.size()) return std::nullopt;
  field.bytes = in.substr(0, static_cast<std::size_t>(size));
  in.remove_prefix(static_cast<std::size_t>(size));
  return field;
}

void put_number(std::string& out, unsigned field, std::int64_t value) {
  put_varint(out, field << 3 | kVarint);
  put_varint(out, static_cast<std::uint64_t>(value));
}

void put_bytes(std::string& out, unsigned field, std::string_view bytes) {
  put_varint(out, field << 3 | kBytes);
  put_varint(out, bytes.size());
  out.append(bytes);
}

}  // namespace berth::proto
