#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// The protobuf wire format by hand, for programs that link no protobuf library (the shim's ttrpc, criu's RPC). Nothing
/// is allocated while reading: fields are views into the bytes. Source: protobuf.dev, "Encoding".
namespace berth::proto {

enum WireType : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

/// One field of a message; of a kVarint `varint`, of the others `bytes` counts.
struct Field {
  std::uint64_t number = 0;
  std::uint8_t type = 0;
  std::uint64_t varint = 0;
  std::string_view bytes;
  [[nodiscard]] bool is(std::uint64_t n, std::uint8_t t) const { return number == n && type == t; }
};

/// Takes one field of any kind from the front of `in`, or nothing when the bytes are bad. Groups, which nobody uses any
/// more, are bad.
std::optional<Field> take_field(std::string_view& in);

/// Calls visit(field) for each field of a message; false when the bytes or visit() say no.
template <class Visit>
bool each_field(std::string_view in, Visit visit) {
  while (!in.empty()) {
    const auto field = take_field(in);
    if (!field || !visit(*field)) return false;
  }
  return true;
}

/// Appends a field to `out`. Numbers are int32, int64, uint32, bool or an enumeration: negative ones take ten bytes.
void put_number(std::string& out, unsigned field, std::int64_t value);
void put_bytes(std::string& out, unsigned field, std::string_view bytes);

}  // namespace berth::proto
