#include "ttrpc/wire.h"

#include "base/proto_wire.h"

namespace berth::ttrpc {
namespace {

// More text than this tells nobody anything, and a status must always fit into a frame.
constexpr std::size_t kMaxMessage = 64U << 10;

using proto::each_field;
using proto::Field;
using proto::kBytes;
using proto::kVarint;
using proto::put_bytes;

bool decode_pair(std::string_view bytes, RequestView& request) {
  if (request.metadata.size() >= kMaxMetadata) return false;
  auto& pair = request.metadata.emplace_back();
  return each_field(bytes, [&pair](const Field& field) {
    if (field.is(1, kBytes)) pair.first = field.bytes;
    if (field.is(2, kBytes)) pair.second = field.bytes;
    return true;
  });
}

// Absent is zero.
void put_number(std::string& out, unsigned field, std::int64_t value) {
  if (value != 0) proto::put_number(out, field, value);
}

// The length of the valid UTF-8 sequence at the front of `text`, or 0.
std::size_t utf8_sequence(std::string_view text) {
  const auto at = [&text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return 1;
  const std::size_t size = lead >= 0xc2 && lead < 0xe0   ? 2
                           : lead >= 0xe0 && lead < 0xf0 ? 3
                           : lead >= 0xf0 && lead < 0xf5 ? 4
                                                         : 0;
  if (size == 0 || text.size() < size) return 0;
  for (std::size_t i = 1; i < size; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and what lies beyond U+10FFFF.
  const unsigned char second = at(1);
  const bool bad = (lead == 0xe0 && second < 0xa0) || (lead == 0xed && second >= 0xa0) ||
                   (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second >= 0x90);
  return bad ? 0 : size;
}

std::string clean_text(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t size = utf8_sequence(text);
    if (size == 0) {
      out.push_back('?');
      text.remove_prefix(1);
    } else {
      out.append(text.substr(0, size));
      text.remove_prefix(size);
    }
  }
  return out;
}

void put_text(std::string& out, unsigned field, std::string_view text) {
  if (!text.empty()) put_bytes(out, field, clean_text(text));
}

// `frame` is kHeaderSize bytes of room and the data.
Result<std::string> finish_frame(std::string frame, std::uint32_t stream_id, FrameType type) {
  const std::size_t length = frame.size() - kHeaderSize;
  if (length > kMaxData) {
    return fail(Code::kExhausted,
                "message of " + std::to_string(length) + " bytes is over the limit of " + std::to_string(kMaxData));
  }
  const auto header = encode_header({static_cast<std::uint32_t>(length), stream_id, type, 0});
  frame.replace(0, kHeaderSize, header.data(), kHeaderSize);
  return frame;
}

}  // namespace

Result<RequestView> decode_request(std::string_view bytes) {
  RequestView request;
  const bool good = each_field(bytes, [&request](const Field& field) {
    if (field.is(1, kBytes)) request.service = field.bytes;
    if (field.is(2, kBytes)) request.method = field.bytes;
    if (field.is(3, kBytes)) request.payload = field.bytes;
    if (field.is(4, kVarint)) request.timeout_nano = static_cast<std::int64_t>(field.varint);
    return !field.is(5, kBytes) || decode_pair(field.bytes, request);
  });
  if (!good) return fail(Code::kInvalid, "malformed ttrpc request");
  return request;
}

Result<ResponseView> decode_response(std::string_view bytes) {
  ResponseView response;
  const bool good = each_field(bytes, [&response](const Field& field) {
    if (field.is(2, kBytes)) response.payload = field.bytes;
    return !field.is(1, kBytes) || each_field(field.bytes, [&response](const Field& status) {
      if (status.is(1, kVarint)) response.code = static_cast<std::int32_t>(status.varint);
      if (status.is(2, kBytes)) response.message = status.bytes;
      return true;
    });
  });
  if (!good) return fail(Code::kInvalid, "malformed ttrpc response");
  return response;
}

Result<std::string> encode_request_frame(std::uint32_t stream_id, const RequestView& request) {
  std::string frame;
  frame.reserve(kHeaderSize + request.service.size() + request.method.size() + request.payload.size() + 64);
  frame.assign(kHeaderSize, '\0');
  put_text(frame, 1, request.service);
  put_text(frame, 2, request.method);
  if (!request.payload.empty()) put_bytes(frame, 3, request.payload);
  put_number(frame, 4, request.timeout_nano);
  for (const auto& [key, value] : request.metadata) {
    std::string pair;
    put_text(pair, 1, key);
    put_text(pair, 2, value);
    put_bytes(frame, 5, pair);
  }
  return finish_frame(std::move(frame), stream_id, FrameType::kRequest);
}

Result<std::string> encode_response_frame(std::uint32_t stream_id, const ResponseView& response) {
  std::string frame;
  frame.reserve(kHeaderSize + response.payload.size() + response.message.size() + 32);
  frame.assign(kHeaderSize, '\0');
  if (response.code != 0) {
    std::string status;
    put_number(status, 1, response.code);
    put_text(status, 2, response.message.substr(0, kMaxMessage));
    put_bytes(frame, 1, status);
  }
  if (!response.payload.empty()) put_bytes(frame, 2, response.payload);
  return finish_frame(std::move(frame), stream_id, FrameType::kResponse);
}

}  // namespace berth::ttrpc
