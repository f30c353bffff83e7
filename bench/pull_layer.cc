#include "pull_layer.h"

#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <vector>

#include "image/digest.h"
#include "os/file.h"

namespace berth::bench {
namespace {

constexpr std::size_t kBlock = 512;
constexpr std::size_t kPiece = 256 << 10;
constexpr std::size_t kShortName = 100;

/// Compresses a stream into a sink.
class Compressor {
 public:
  explicit Compressor(image::ByteSink sink) : sink_(std::move(sink)), out_(kPiece) {}
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;
  Compressor(Compressor&&) = delete;
  Compressor& operator=(Compressor&&) = delete;
  virtual ~Compressor() = default;
  virtual Result<> push(image::Bytes bytes, bool last) = 0;

 protected:
  Result<> give(std::size_t count) { return count == 0 ? Result<>{} : sink_(image::Bytes(out_).first(count)); }
  image::ByteSink sink_;
  std::vector<std::byte> out_;
};

class Gzip final : public Compressor {
 public:
  explicit Gzip(image::ByteSink sink) : Compressor(std::move(sink)) {
    constexpr int kGzipWindow = 15 + 16;
    good_ = ::deflateInit2(&stream_, 6, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) == Z_OK;
  }
  Gzip(const Gzip&) = delete;
  Gzip& operator=(const Gzip&) = delete;
  Gzip(Gzip&&) = delete;
  Gzip& operator=(Gzip&&) = delete;
  ~Gzip() override { ::deflateEnd(&stream_); }

  Result<> push(image::Bytes bytes, bool last) override {
    if (!good_) return fail(Code::kExhausted, "no memory for gzip");
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));  // NOLINT: zlib reads only
    stream_.avail_in = static_cast<uInt>(bytes.size());
    do {
      stream_.next_out = reinterpret_cast<Bytef*>(out_.data());
      stream_.avail_out = static_cast<uInt>(out_.size());
      if (::deflate(&stream_, last ? Z_FINISH : Z_NO_FLUSH) == Z_STREAM_ERROR) return fail(Code::kInternal, "gzip");
      BERTH_TRY(give(out_.size() - stream_.avail_out), "gzip");
    } while (stream_.avail_out == 0);
    return {};
  }

 private:
  z_stream stream_{};
  bool good_ = false;
};

class Zstd final : public Compressor {
 public:
  explicit Zstd(image::ByteSink sink) : Compressor(std::move(sink)), context_(::ZSTD_createCCtx()) {
    if (context_ != nullptr) ::ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, 3);
  }
  Zstd(const Zstd&) = delete;
  Zstd& operator=(const Zstd&) = delete;
  Zstd(Zstd&&) = delete;
  Zstd& operator=(Zstd&&) = delete;
  ~Zstd() override { ::ZSTD_freeCCtx(context_); }

  Result<> push(image::Bytes bytes, bool last) override {
    if (context_ == nullptr) return fail(Code::kExhausted, "no memory for zstd");
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    for (bool done = false; !done;) {
      ZSTD_outBuffer out{out_.data(), out_.size(), 0};
      const std::size_t left = ::ZSTD_compressStream2(context_, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
      if (::ZSTD_isError(left) != 0) return fail(Code::kInternal, ::ZSTD_getErrorName(left));
      BERTH_TRY(give(out.pos), "zstd");
      done = last ? left == 0 : in.pos == in.size;
    }
    return {};
  }

 private:
  ZSTD_CCtx* context_;
};

/// The number in octal, zero-filled, with a NUL behind it.
void put_octal(char* field, std::size_t width, std::uint64_t value) {
  field[width - 1] = '\0';
  for (std::size_t i = width - 1; i-- > 0; value >>= 3U) field[i] = static_cast<char>('0' + (value & 7U));
}

}  // namespace

Result<> TarStream::long_text(char type, const std::string& text) {
  BERTH_TRY(header("././@LongLink", type, {}, text.size() + 1, 0644), "long name");
  BERTH_TRY(sink_(image::as_bytes(std::string_view(text.c_str(), text.size() + 1))), "long name");
  return pad(text.size() + 1);
}

Result<> TarStream::header(const std::string& name, char type, const std::string& target, std::uint64_t size,
                           mode_t mode) {
  if (name.size() > kShortName) BERTH_TRY(long_text('L', name), name);
  if (target.size() > kShortName) BERTH_TRY(long_text('K', target), name);
  std::array<char, kBlock> block{};
  std::memcpy(block.data(), name.data(), std::min(name.size(), kShortName));
  put_octal(&block[100], 8, mode & 07777U);
  put_octal(&block[108], 8, 0);
  put_octal(&block[116], 8, 0);
  put_octal(&block[124], 12, size);
  put_octal(&block[136], 12, 1'700'000'000);
  std::memset(&block[148], ' ', 8);
  block[156] = type;
  std::memcpy(&block[157], target.data(), std::min(target.size(), kShortName));
  std::memcpy(&block[257], "ustar  ", 8);
  std::memcpy(&block[265], "root", 4);
  std::memcpy(&block[297], "root", 4);
  unsigned sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  put_octal(&block[148], 7, sum);
  return sink_(image::as_bytes(std::string_view(block.data(), block.size())));
}

Result<> TarStream::pad(std::uint64_t size) {
  static constexpr std::array<char, kBlock> kZeros{};
  const std::size_t rest = (kBlock - size % kBlock) % kBlock;
  return rest == 0 ? Result<>{} : sink_(image::as_bytes(std::string_view(kZeros.data(), rest)));
}

Result<> TarStream::dir(const std::string& name, mode_t mode) {
  ++entries_;
  return header(name + "/", '5', {}, 0, mode);
}

Result<> TarStream::symlink(const std::string& name, const std::string& target) {
  ++entries_;
  return header(name, '2', target, 0, 0777);
}

Result<> TarStream::file(const std::string& name, std::uint64_t size, mode_t mode,
                         const std::function<Result<>(std::span<std::byte>)>& next) {
  ++entries_;
  BERTH_TRY(header(name, '0', {}, size, mode), name);
  std::vector<std::byte> piece(std::min<std::uint64_t>(size, kPiece));
  for (std::uint64_t at = 0; at < size; at += piece.size()) {
    piece.resize(std::min<std::uint64_t>(size - at, kPiece));
    BERTH_TRY(next(piece), name);
    BERTH_TRY(sink_(piece), name);
  }
  return pad(size);
}

Result<> TarStream::copy(const std::string& name, const std::string& path, const struct stat& status) {
  BERTH_ASSIGN(const auto fd, os::open_file(path, O_RDONLY | O_NOFOLLOW), "copy");
  return file(name, static_cast<std::uint64_t>(status.st_size), status.st_mode,
              [&fd, &path](std::span<std::byte> piece) -> Result<> {
                for (std::size_t have = 0; have < piece.size();) {
                  const ssize_t got = ::read(fd.get(), piece.data() + have, piece.size() - have);
                  if (got < 0) return fail_errno(errno, "read " + path);
                  if (got == 0) {
                    std::memset(piece.data() + have, 0, piece.size() - have);
                    break;
                  }
                  have += static_cast<std::size_t>(got);
                }
                return {};
              });
}

Result<> TarStream::finish() {
  static constexpr std::array<char, 2 * kBlock> kEnd{};
  return sink_(image::as_bytes(std::string_view(kEnd.data(), kEnd.size())));
}

Result<Layer> write_layer(const LayerContent& content, Packing packing, const std::string& dir) {
  static std::atomic<unsigned> next = 0;
  const std::string unnamed = dir + "/.layer-" + std::to_string(next++);
  BERTH_ASSIGN(const auto fd, os::open_file(unnamed, O_WRONLY | O_CREAT | O_TRUNC), "layer");
  BERTH_ASSIGN(auto packed_hash, image::Sha256::start(), "layer");
  BERTH_ASSIGN(auto plain_hash, image::Sha256::start(), "layer");
  Layer layer;
  const image::ByteSink to_file = [&](image::Bytes bytes) -> Result<> {
    packed_hash.update(bytes);
    layer.size += bytes.size();
    return os::write_all(fd.get(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  };
  std::unique_ptr<Compressor> compressor;
  if (packing == Packing::kGzip) {
    compressor = std::make_unique<Gzip>(to_file);
  } else {
    compressor = std::make_unique<Zstd>(to_file);
  }
  TarStream tar([&](image::Bytes bytes) -> Result<> {
    plain_hash.update(bytes);
    layer.unpacked += bytes.size();
    return compressor->push(bytes, false);
  });
  BERTH_TRY(content(tar), "layer");
  BERTH_TRY(tar.finish(), "layer");
  BERTH_TRY(compressor->push({}, true), "layer");
  layer.entries = tar.entries();
  layer.digest = packed_hash.finish();
  layer.diff_id = plain_hash.finish();
  const std::string named = dir + "/" + std::string(image::digest_hex(layer.digest));
  if (::rename(unnamed.c_str(), named.c_str()) != 0) return fail_errno(errno, "rename " + unnamed);
  return layer;
}

}  // namespace berth::bench
