#include "image/decompress.h"

#include <isa-l/igzip_lib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <cstring>
#include <vector>

namespace berth::image {
namespace {

constexpr std::size_t kOutSize = 256U << 10;
constexpr std::size_t kMagicSize = 4;
constexpr int kMaxWindowLog = 27;  // zstd --long makes 27; more would let an image take the node's memory

Bytes span_of(const std::vector<std::byte>& buffer, std::size_t size) {
  return Bytes(buffer).first(size);
}

class Plain final : public Decompressor::Codec {
 public:
  Result<> push(Bytes bytes, const ByteSink& sink) override { return sink(bytes); }
  Result<> finish() override { return {}; }
};

class Gzip final : public Decompressor::Codec {
 public:
  Gzip() : state_(std::make_unique<inflate_state>()), out_(kOutSize) {
    isal_inflate_init(state_.get());
    state_->crc_flag = ISAL_GZIP;
  }
  Result<> push(Bytes bytes, const ByteSink& sink) override;
  Result<> finish() override {
    if (!between_) return fail(Code::kCorrupt, "the gzip stream is truncated");
    return {};
  }

 private:
  Result<> check_next_member(Bytes rest);

  std::unique_ptr<inflate_state> state_;
  std::vector<std::byte> out_;
  bool between_ = false;        ///< a member has ended and no byte of the next has come
  std::size_t magic_seen_ = 2;  ///< how much of a member's two magic bytes has been checked
};

std::string_view gzip_fault(int code) {
  switch (code) {
    case ISAL_INCORRECT_CHECKSUM:
      return "gzip checksum or length mismatch";
    case ISAL_INVALID_BLOCK:
      return "damaged gzip stream: invalid block";
    case ISAL_INVALID_SYMBOL:
      return "damaged gzip stream: invalid symbol";
    case ISAL_INVALID_LOOKBACK:
      return "damaged gzip stream: invalid distance";
    case ISAL_UNSUPPORTED_METHOD:
      return "the gzip stream uses an unknown method";
    case ISAL_INVALID_WRAPPER:
      return "bytes follow the gzip stream that are no gzip member";
    default:
      return "damaged gzip stream";
  }
}

/// Behind a member only another member may follow; its magic may be split over pushes.
Result<> Gzip::check_next_member(Bytes rest) {
  constexpr std::byte kMagic[2] = {std::byte{0x1f}, std::byte{0x8b}};
  for (std::size_t i = 0; magic_seen_ < 2 && i < rest.size(); ++i, ++magic_seen_) {
    if (rest[i] != kMagic[magic_seen_]) return fail(Code::kCorrupt, std::string(gzip_fault(ISAL_INVALID_WRAPPER)));
  }
  return {};
}

Result<> Gzip::push(Bytes bytes, const ByteSink& sink) {
  // igzip's interface is not const-correct; it does not write to its input.
  state_->next_in = reinterpret_cast<std::uint8_t*>(const_cast<std::byte*>(bytes.data()));
  state_->avail_in = static_cast<std::uint32_t>(bytes.size());
  while (true) {
    if (state_->avail_in != 0) {
      if (between_) {
        isal_inflate_reset(state_.get());
        state_->crc_flag = ISAL_GZIP;
        between_ = false;
        magic_seen_ = 0;
      }
      BERTH_TRY(check_next_member(bytes.last(state_->avail_in)), "decompress");
    }
    if (between_) return {};
    state_->next_out = reinterpret_cast<std::uint8_t*>(out_.data());
    state_->avail_out = kOutSize;
    const std::uint32_t before = state_->avail_in;
    const int code = isal_inflate(state_.get());
    if (code < 0 || code == ISAL_NEED_DICT) return fail(Code::kCorrupt, std::string(gzip_fault(code)));
    const std::size_t made = kOutSize - state_->avail_out;
    if (made != 0) {
      if (auto done = sink(span_of(out_, made)); !done) return done;
    }
    between_ = state_->block_state == ISAL_BLOCK_FINISH;
    if (!between_ && made == 0 && state_->avail_in == before) {
      if (before != 0) return fail(Code::kCorrupt, "damaged gzip stream: no progress");
      return {};
    }
  }
}

class Zstd final : public Decompressor::Codec {
 public:
  Zstd() : context_(ZSTD_createDCtx()), out_(kOutSize) {
    if (context_ != nullptr) ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, kMaxWindowLog);
  }
  Zstd(const Zstd&) = delete;
  Zstd& operator=(const Zstd&) = delete;
  Zstd(Zstd&&) = delete;
  Zstd& operator=(Zstd&&) = delete;
  ~Zstd() override { ZSTD_freeDCtx(context_); }

  Result<> push(Bytes bytes, const ByteSink& sink) override {
    if (context_ == nullptr) return fail(Code::kExhausted, "no memory for zstd");
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    bool full = false;
    while (in.pos < in.size || full) {
      ZSTD_outBuffer out{out_.data(), out_.size(), 0};
      const std::size_t hint = ZSTD_decompressStream(context_, &out, &in);
      if (ZSTD_isError(hint) != 0) return fault(hint);
      in_frame_ = hint != 0;
      full = out.pos == out.size && in_frame_;
      if (out.pos != 0) {
        if (auto done = sink(span_of(out_, out.pos)); !done) return done;
      }
    }
    return {};
  }
  Result<> finish() override {
    if (in_frame_) return fail(Code::kCorrupt, "the zstd stream is truncated");
    return {};
  }

 private:
  static Result<> fault(std::size_t code) {
    const std::string text = std::string("damaged zstd stream: ") + ZSTD_getErrorName(code);
    switch (ZSTD_getErrorCode(code)) {
      case ZSTD_error_frameParameter_windowTooLarge:
        return fail(Code::kExhausted, "the zstd window exceeds 128 MiB");
      case ZSTD_error_memory_allocation:
        return fail(Code::kExhausted, "no memory for zstd");
      default:
        return fail(Code::kCorrupt, text);
    }
  }

  ZSTD_DCtx* context_;
  std::vector<std::byte> out_;
  bool in_frame_ = true;
};

}  // namespace

Decompressor::Decompressor(ByteSink sink) : sink_(std::move(sink)) {}
Decompressor::~Decompressor() = default;

Result<> Decompressor::choose() {
  const auto byte = [this](std::size_t i) { return i < head_.size() ? static_cast<unsigned char>(head_[i]) : 0U; };
  const bool skippable = (byte(0) & 0xf0) == 0x50 && byte(1) == 0x2a && byte(2) == 0x4d && byte(3) == 0x18;
  if (byte(0) == 0x1f && byte(1) == 0x8b) {
    compression_ = Compression::kGzip;
    codec_ = std::make_unique<Gzip>();
  } else if ((byte(0) == 0x28 && byte(1) == 0xb5 && byte(2) == 0x2f && byte(3) == 0xfd) || skippable) {
    compression_ = Compression::kZstd;
    codec_ = std::make_unique<Zstd>();
  } else {
    compression_ = Compression::kNone;
    codec_ = std::make_unique<Plain>();
  }
  return codec_->push(as_bytes(head_), sink_);
}

Result<> Decompressor::push(Bytes bytes) {
  if (!codec_) {
    const std::size_t take = std::min(kMagicSize - head_.size(), bytes.size());
    head_.append(reinterpret_cast<const char*>(bytes.data()), take);
    bytes = bytes.subspan(take);
    if (head_.size() < kMagicSize) return {};
    if (auto done = choose(); !done) return done;
  }
  if (bytes.empty()) return {};
  return codec_->push(bytes, sink_);
}

Result<> Decompressor::finish() {
  if (!codec_ && !head_.empty()) {
    if (auto done = choose(); !done) return done;
  }
  return codec_ ? codec_->finish() : Result<>{};
}

}  // namespace berth::image
