#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// The form in which records are stored: a header with a version, then fields of (tag, length, bytes), little-endian.
/// A reader skips tags that it does not know, so that an older daemon reads what a newer one wrote.
namespace berth::cri {

inline constexpr std::uint16_t kBlobVersion = 1;
inline constexpr std::size_t kMaxBlobBytes = 32U << 20;  ///< two requests at the gRPC limit

class BlobWriter final {
 public:
  BlobWriter();
  void put(std::uint16_t tag, std::string_view bytes);
  void put_int(std::uint16_t tag, std::int64_t value);
  [[nodiscard]] std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

struct BlobField {
  std::uint16_t tag = 0;
  std::string_view bytes;  ///< points into the blob
  /// The field as a number; nothing but eight bytes is one.
  [[nodiscard]] Result<std::int64_t> integer() const;
};

/// The fields in the order of writing; a tag may appear again. Errors: kCorrupt not a whole blob; kUnsupported a
/// version that this program does not know; kExhausted larger than kMaxBlobBytes.
[[nodiscard]] Result<std::vector<BlobField>> read_blob(std::string_view blob);

}  // namespace berth::cri
