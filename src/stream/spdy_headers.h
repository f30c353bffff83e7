#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace berth::stream {

/// Names in lower case, in the order of the wire; a value of several parts holds NULs between them.
using SpdyHeaders = std::vector<std::pair<std::string, std::string>>;

inline constexpr std::size_t kMaxSpdyHeaderBytes = 64U << 10;  ///< of a block, decompressed
inline constexpr std::size_t kMaxSpdyHeaders = 128;

/// The value of `name` (lower case), or "".
[[nodiscard]] std::string_view spdy_header(const SpdyHeaders& headers, std::string_view name);

struct ZlibState;

/// Name/value blocks of one direction of one connection: zlib with the dictionary of SPDY/3, one stream for all blocks.
/// Source: draft-mbelshe-httpbis-spdy-00, 2.6.10.
class SpdyHeaderDecoder final {
 public:
  SpdyHeaderDecoder();
  ~SpdyHeaderDecoder();
  SpdyHeaderDecoder(const SpdyHeaderDecoder&) = delete;
  SpdyHeaderDecoder& operator=(const SpdyHeaderDecoder&) = delete;
  SpdyHeaderDecoder(SpdyHeaderDecoder&&) = delete;
  SpdyHeaderDecoder& operator=(SpdyHeaderDecoder&&) = delete;

  /// Each block once, in the order of the wire. Errors: kCorrupt no such block; kExhausted too large. After an error
  /// later blocks cannot be read.
  [[nodiscard]] Result<SpdyHeaders> decode(std::string_view block);

 private:
  std::unique_ptr<ZlibState> zlib_;
};

class SpdyHeaderEncoder final {
 public:
  SpdyHeaderEncoder();
  ~SpdyHeaderEncoder();
  SpdyHeaderEncoder(const SpdyHeaderEncoder&) = delete;
  SpdyHeaderEncoder& operator=(const SpdyHeaderEncoder&) = delete;
  SpdyHeaderEncoder(SpdyHeaderEncoder&&) = delete;
  SpdyHeaderEncoder& operator=(SpdyHeaderEncoder&&) = delete;

  [[nodiscard]] std::string encode(const SpdyHeaders& headers);

 private:
  std::unique_ptr<ZlibState> zlib_;
};

}  // namespace berth::stream
