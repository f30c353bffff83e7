#pragma once
#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "image/decompress.h"

namespace berth::bench {

/// Writes a tar archive entry by entry into a sink: GNU's form, of names of any length. Not thread-safe.
class TarStream final {
 public:
  explicit TarStream(image::ByteSink sink) : sink_(std::move(sink)) {}

  /// Names are relative, without a final slash.
  Result<> dir(const std::string& name, mode_t mode = 0755);
  Result<> symlink(const std::string& name, const std::string& target);
  /// A file of exactly `size` bytes, which `next(span)` makes piece by piece: it fills the whole span.
  Result<> file(const std::string& name, std::uint64_t size, mode_t mode,
                const std::function<Result<>(std::span<std::byte>)>& next);
  /// A file of the machine's own at `path`; of one that shrinks meanwhile the rest is zeros.
  Result<> copy(const std::string& name, const std::string& path, const struct stat& status);
  /// The end mark. Nothing follows.
  Result<> finish();
  [[nodiscard]] std::uint64_t entries() const { return entries_; }

 private:
  Result<> header(const std::string& name, char type, const std::string& target, std::uint64_t size, mode_t mode);
  Result<> long_text(char type, const std::string& text);
  Result<> pad(std::uint64_t size);

  image::ByteSink sink_;
  std::uint64_t entries_ = 0;
};

enum class Packing : std::uint8_t { kGzip, kZstd };  ///< gzip -6, zstd -3

/// A layer as its image's documents tell of it.
struct Layer {
  std::string digest;
  std::string diff_id;
  std::uint64_t size = 0;
  std::uint64_t unpacked = 0;
  std::uint64_t entries = 0;
};

/// What fills a layer; it does not call finish().
using LayerContent = std::function<Result<>(TarStream&)>;
/// Writes the layer as the file DIR/<hex digest>.
Result<Layer> write_layer(const LayerContent& content, Packing packing, const std::string& dir);

}  // namespace berth::bench
