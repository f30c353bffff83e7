#include "stream/spdy_headers.h"

#include <zlib.h>

#include <algorithm>
#include <array>

#include "stream/spdy_frame.h"

namespace berth::stream {
namespace {

// The dictionary that both sides begin with: these words, each behind its length, then the tail (2.6.10.1).
// clang-format off
constexpr std::string_view kWords[] = {
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset", "accept-encoding",
    "accept-language", "accept-ranges", "age", "allow", "authorization", "cache-control", "connection",
    "content-base", "content-encoding", "content-language", "content-length", "content-location", "content-md5",
    "content-range", "content-type", "date", "etag", "expect", "expires", "from", "host", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "location",
    "max-forwards", "pragma", "proxy-authenticate", "proxy-authorization", "range", "referer", "retry-after",
    "server", "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "vary", "via", "warning",
    "www-authenticate", "method", "get", "status", "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie",
    "keep-alive", "origin",
};
// clang-format on
constexpr std::string_view kTail =
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Au"
    "thoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidd"
    "en404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr Ma"
    "y Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,imag"
    "e/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicpri"
    "vatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

const std::string& dictionary() {
  static const std::string kBytes = [] {
    std::string made;
    for (const std::string_view word : kWords) {
      append_spdy_word(made, static_cast<std::uint32_t>(word.size()));
      made.append(word);
    }
    made.append(kTail);
    return made;
  }();
  return kBytes;
}

// zlib's interface is of C and of before const.
Bytef* zlib_bytes(std::string_view bytes) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): it only reads
  return reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
}

// Takes a counted string from the front of `bytes`.
bool take_string(std::string_view& bytes, std::string& out) {
  if (bytes.size() < 4) return false;
  const std::size_t size = spdy_word(bytes, 0);
  bytes.remove_prefix(4);
  if (size > bytes.size()) return false;
  out.assign(bytes.substr(0, size));
  bytes.remove_prefix(size);
  return true;
}

Result<SpdyHeaders> parse(std::string_view bytes) {
  const auto broken = [] { return fail(Code::kCorrupt, "malformed header block"); };
  if (bytes.size() < 4) return broken();
  const std::size_t count = spdy_word(bytes, 0);
  bytes.remove_prefix(4);
  if (count > kMaxSpdyHeaders) return fail(Code::kExhausted, "a header block of " + std::to_string(count) + " names");
  SpdyHeaders headers;
  for (std::size_t i = 0; i < count; ++i) {
    std::string name;
    std::string value;
    if (!take_string(bytes, name) || !take_string(bytes, value) || name.empty()) return broken();
    // HTTP's names have no case; the specification wants small letters, not all clients do.
    std::ranges::transform(name, name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
    headers.emplace_back(std::move(name), std::move(value));
  }
  if (!bytes.empty()) return broken();
  return headers;
}

}  // namespace

struct ZlibState {
  z_stream stream{};
  bool ready = false;
};

std::string_view spdy_header(const SpdyHeaders& headers, std::string_view name) {
  const auto found = std::ranges::find(headers, name, &SpdyHeaders::value_type::first);
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

SpdyHeaderDecoder::SpdyHeaderDecoder() : zlib_(std::make_unique<ZlibState>()) {
  zlib_->ready = ::inflateInit(&zlib_->stream) == Z_OK;
}

SpdyHeaderDecoder::~SpdyHeaderDecoder() {
  if (zlib_->ready) ::inflateEnd(&zlib_->stream);
}

Result<SpdyHeaders> SpdyHeaderDecoder::decode(std::string_view block) {
  if (!zlib_->ready) return fail(Code::kExhausted, "no memory for zlib");
  z_stream& stream = zlib_->stream;
  std::string text;
  std::array<char, 4096> buffer{};
  stream.next_in = zlib_bytes(block);
  stream.avail_in = static_cast<uInt>(block.size());
  while (true) {
    stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
    stream.avail_out = static_cast<uInt>(buffer.size());
    int code = ::inflate(&stream, Z_SYNC_FLUSH);
    if (code == Z_NEED_DICT) {
      const std::string& bytes = dictionary();
      if (::inflateSetDictionary(&stream, zlib_bytes(bytes), static_cast<uInt>(bytes.size())) != Z_OK) {
        return fail(Code::kCorrupt, "header block with another dictionary");
      }
      continue;
    }
    text.append(buffer.data(), buffer.size() - stream.avail_out);
    if (text.size() > kMaxSpdyHeaderBytes) return fail(Code::kExhausted, "header block is too large");
    // No room is no failure: there was nothing more.
    if (code == Z_BUF_ERROR) code = Z_OK;
    if (code != Z_OK) return fail(Code::kCorrupt, "header block cannot be decompressed");
    if (stream.avail_in == 0 && stream.avail_out != 0) return parse(text);
  }
}

SpdyHeaderEncoder::SpdyHeaderEncoder() : zlib_(std::make_unique<ZlibState>()) {
  const std::string& bytes = dictionary();
  zlib_->ready = ::deflateInit(&zlib_->stream, Z_BEST_SPEED) == Z_OK &&
                 ::deflateSetDictionary(&zlib_->stream, zlib_bytes(bytes), static_cast<uInt>(bytes.size())) == Z_OK;
}

SpdyHeaderEncoder::~SpdyHeaderEncoder() {
  if (zlib_->ready) ::deflateEnd(&zlib_->stream);
}

std::string SpdyHeaderEncoder::encode(const SpdyHeaders& headers) {
  std::string text;
  append_spdy_word(text, static_cast<std::uint32_t>(headers.size()));
  for (const auto& [name, value] : headers) {
    append_spdy_word(text, static_cast<std::uint32_t>(name.size()));
    text.append(name);
    append_spdy_word(text, static_cast<std::uint32_t>(value.size()));
    text.append(value);
  }
  std::string block;
  if (!zlib_->ready) return block;
  z_stream& stream = zlib_->stream;
  std::array<char, 4096> buffer{};
  stream.next_in = zlib_bytes(text);
  stream.avail_in = static_cast<uInt>(text.size());
  do {
    stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
    stream.avail_out = static_cast<uInt>(buffer.size());
    ::deflate(&stream, Z_SYNC_FLUSH);
    block.append(buffer.data(), buffer.size() - stream.avail_out);
  } while (stream.avail_out == 0);
  return block;
}

}  // namespace berth::stream
