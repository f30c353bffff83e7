#include "ttrpc/wire.h"

#include <gtest/gtest.h>

#include "ttrpc/status.h"

namespace berth::ttrpc {
namespace {

using std::string_literals::operator""s;

std::string frame_bytes(std::uint32_t id, FrameType type, std::string_view data, std::uint8_t flags = 0) {
  const auto header = encode_header({static_cast<std::uint32_t>(data.size()), id, type, flags});
  return std::string(header.data(), header.size()).append(data);
}

TEST(Frame, HeaderIsBigEndian) {
  const auto bytes = encode_header({0x01020304, 0x05060708, FrameType::kResponse, kFlagNoData});
  EXPECT_EQ(std::string(bytes.data(), bytes.size()), "\x01\x02\x03\x04\x05\x06\x07\x08\x02\x04"s);
}

TEST(Frame, DecodesAtEveryCut) {
  const std::string stream = frame_bytes(1, FrameType::kRequest, "hello") + frame_bytes(3, FrameType::kData, "", 5) +
                             frame_bytes(5, FrameType::kResponse, std::string(5000, 'x'));
  for (const std::size_t step : {1UL, 2UL, 9UL, 10UL, 11UL, 16UL, 4096UL, stream.size()}) {
    FrameDecoder decoder;
    std::vector<std::uint32_t> ids;
    std::size_t bytes = 0;
    for (std::size_t at = 0; at < stream.size(); at += step) {
      std::string_view part = std::string_view(stream).substr(at, step);
      for (auto frame = decoder.next(part); frame.value(); frame = decoder.next(part)) {
        ids.push_back((*frame)->header.stream_id);
        bytes += (*frame)->data.size();
      }
      EXPECT_TRUE(part.empty());
    }
    EXPECT_EQ(ids, (std::vector<std::uint32_t>{1, 3, 5})) << step;
    EXPECT_EQ(bytes, 5005U);
    EXPECT_TRUE(decoder.at_boundary());
    EXPECT_LT(decoder.allocated(), 64U) << "memory is kept after the last frame";
  }
}

TEST(Frame, OversizedIsReportedOnceAndThrownAway) {
  FrameDecoder decoder;
  const auto header = encode_header({kMaxData + 1, 7, FrameType::kRequest, 0});
  std::string_view part(header.data(), header.size());
  auto frame = decoder.next(part);
  ASSERT_TRUE(frame && *frame);
  EXPECT_TRUE((*frame)->oversized);
  EXPECT_EQ((*frame)->header.stream_id, 7U);
  EXPECT_FALSE(decoder.at_boundary());
  const std::string block(1 << 16, 'x');
  for (std::size_t left = kMaxData + 1; left > 0;) {
    std::string_view bytes = std::string_view(block).substr(0, left);
    left -= bytes.size();
    frame = decoder.next(bytes);
    ASSERT_TRUE(frame);
    EXPECT_FALSE(*frame);
  }
  EXPECT_LT(decoder.allocated(), 64U);
  const std::string next = frame_bytes(9, FrameType::kRequest, "ok");
  std::string_view rest = next;
  frame = decoder.next(rest);
  ASSERT_TRUE(frame && *frame);
  EXPECT_EQ((*frame)->data, "ok");
}

TEST(Frame, AnImplausibleLengthIsInvalid) {
  FrameDecoder decoder;
  std::string_view part = "GET / HTTP/1.1\r\n\r\n";
  EXPECT_EQ(decoder.next(part).error().code(), Code::kInvalid);
}

TEST(Frame, APromisedLengthAllocatesNothing) {
  FrameDecoder decoder;
  std::string bytes = frame_bytes(1, FrameType::kRequest, "abc");
  bytes[1] = 0x3f;  // promises 4 MiB and sends three bytes
  std::string_view part = bytes;
  EXPECT_FALSE(decoder.next(part).value());
  EXPECT_LE(decoder.allocated(), 8192U);
}

TEST(Wire, RequestRoundTrip) {
  const RequestView request{"s.v1.S", "M", std::string_view("pay\0load", 8), -5, {{"k", "v"}, {"", ""}}};
  const auto frame = encode_request_frame(9, request);
  ASSERT_TRUE(frame);
  const FrameHeader header = decode_header(*frame);
  EXPECT_EQ(header.stream_id, 9U);
  EXPECT_EQ(header.length, frame->size() - kHeaderSize);
  const auto back = decode_request(std::string_view(*frame).substr(kHeaderSize));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->service, "s.v1.S");
  EXPECT_EQ(back->method, "M");
  EXPECT_EQ(back->payload, request.payload);
  EXPECT_EQ(back->timeout_nano, -5);
  EXPECT_EQ(back->metadata, request.metadata);
}

// Bytes as protoc writes them, so that both directions are not wrong together.
TEST(Wire, KnownBytes) {
  const auto request = encode_request_frame(1, {"a", "b", "c", 300, {{"k", "v"}}});
  ASSERT_TRUE(request);
  EXPECT_EQ(request->substr(kHeaderSize),
            "\x0a\x01"
            "a\x12\x01"
            "b\x1a\x01"
            "c\x20\xac\x02\x2a\x06\x0a\x01k\x12\x01v"s);
  const auto response = encode_response_frame(1, {5, "no", ""});
  ASSERT_TRUE(response);
  EXPECT_EQ(response->substr(kHeaderSize), "\x0a\x06\x08\x05\x12\x02no"s);
  const auto empty = encode_response_frame(1, {});
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->size(), kHeaderSize);
}

TEST(Wire, SkipsUnknownFieldsAndTakesTheLast) {
  // field 15 varint, 14 fixed64, 13 fixed32, 12 bytes, then method twice
  const std::string bytes =
      "\x78\x01"
      "\x71"
      "12345678"
      "\x6d"
      "1234"
      "\x62\x02zz"
      "\x12\x01"
      "a"
      "\x12\x01"
      "b"s;
  const auto request = decode_request(bytes);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->method, "b");
  // a known number with another wire type is an unknown field
  EXPECT_EQ(decode_request("\x08\x05"s).value().service, "");
}

TEST(Wire, RefusesMalformedMessages) {
  const std::vector<std::string> bad = {
      "\x0a"s,  // no length
      "\x0a\x05"
      "abc"s,                                               // length beyond the end
      "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s,      // length of 2^64-1
      "\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s,  // varint of eleven bytes
      "\x20\x80"s,                                          // unfinished varint
      "\x02\x00"s,                                          // field number 0
      "\x0b\x0c"s,                                          // group
      "\x09"
      "1234"s,              // short fixed64
      "\x2a\x02\x0a\x05"s,  // bad pair inside
  };
  for (const std::string& bytes : bad) EXPECT_EQ(decode_request(bytes).error().code(), Code::kInvalid) << bytes;
  EXPECT_EQ(decode_response("\x0a\x02\x12\x09"s).error().code(), Code::kInvalid);
  std::string pairs;
  for (std::size_t i = 0; i < kMaxMetadata; ++i) pairs += "\x2a\x00"s;
  EXPECT_TRUE(decode_request(pairs));
  EXPECT_FALSE(decode_request(pairs + "\x2a\x00"s));
}

TEST(Wire, StatusTextIsValidUtf8AndBounded) {
  const auto frame = encode_response_frame(1, {2, "gr\xc3\xbc\xc3\xa9n \xff\xc0\xaf \xed\xa0\x80 \xe2\x82", ""});
  ASSERT_TRUE(frame);
  EXPECT_EQ(decode_response(std::string_view(*frame).substr(kHeaderSize))->message, "gr\xc3\xbc\xc3\xa9n ??? ??? ??");
  const std::string big(kMaxData + 5, 'x');
  const auto bounded = encode_response_frame(1, {2, big, ""});
  ASSERT_TRUE(bounded);
  EXPECT_LT(bounded->size(), 70000U);
}

TEST(Wire, TooLongMessagesAreRefused) {
  const std::string big(kMaxData, 'x');
  EXPECT_EQ(encode_request_frame(1, {"", "", big, 0, {}}).error().code(), Code::kExhausted);
  EXPECT_EQ(encode_response_frame(1, {0, "", big}).error().code(), Code::kExhausted);
}

TEST(Status, EveryCodeSurvivesTheWire) {
  for (int i = 0; i <= static_cast<int>(Code::kInternal); ++i) {
    const Code code = static_cast<Code>(i);
    EXPECT_EQ(code_of(status_of(code)), code) << code_name(code);
  }
  EXPECT_EQ(status_of(Code::kUnsupported), 12);
  EXPECT_EQ(code_of(2), Code::kInternal);
  EXPECT_EQ(code_of(-7), Code::kInternal);
}

}  // namespace
}  // namespace berth::ttrpc
