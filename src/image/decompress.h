#pragma once
#include <functional>
#include <memory>
#include <string_view>

#include "base/result.h"
#include "image/digest.h"

namespace berth::image {

/// Takes bytes in order; the span lives only during the call.
using ByteSink = std::function<Result<>(Bytes)>;

enum class Compression : std::uint8_t { kUnknown, kNone, kGzip, kZstd };

/// Turns a pushed stream into its decompressed bytes. Which compression it is, the first bytes say (registries' media
/// types are often wrong, so they are not asked). Gzip may have several members, each CRC and length are checked; zstd
/// several frames with windows up to 128 MiB. Holds about 0.4 MiB (and zstd's window). Not thread-safe. Errors:
/// kCorrupt damaged, truncated, or bytes behind the last member; kExhausted zstd window too large or no memory;
/// whatever the sink returns. Source: RFC 1952, RFC 8878.
class Decompressor final {
 public:
  explicit Decompressor(ByteSink sink);
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;
  Decompressor(Decompressor&&) = delete;
  Decompressor& operator=(Decompressor&&) = delete;
  ~Decompressor();

  Result<> push(Bytes bytes);
  /// The stream is over: kCorrupt when it stopped in the middle.
  Result<> finish();
  [[nodiscard]] Compression compression() const { return compression_; }

  /// One algorithm's state; private to the .cc file.
  class Codec {
   public:
    Codec() = default;
    Codec(const Codec&) = delete;
    Codec& operator=(const Codec&) = delete;
    Codec(Codec&&) = delete;
    Codec& operator=(Codec&&) = delete;
    virtual ~Codec() = default;
    virtual Result<> push(Bytes bytes, const ByteSink& sink) = 0;
    virtual Result<> finish() = 0;
  };

 private:
  Result<> choose();

  ByteSink sink_;
  Compression compression_ = Compression::kUnknown;
  std::string head_;  ///< the first bytes until the choice is made
  std::unique_ptr<Codec> codec_;
};

}  // namespace berth::image
