#include <gtest/gtest.h>
#include <zlib.h>

#include "stream/spdy_frame.h"
#include "stream/spdy_headers.h"
#include "stream/spdy_session.h"
#include "stream/test_wire.h"

namespace berth::stream {
namespace {

class Seen final : public SpdyFrames {
 public:
  Result<> on_control(SpdyType type, std::uint8_t flags, std::string_view payload) override {
    text +=
        "c" + std::to_string(static_cast<int>(type)) + "/" + std::to_string(flags) + ":" + std::string(payload) + ";";
    return {};
  }
  Result<> on_data(std::uint32_t stream, std::string_view bytes, bool fin) override {
    if (stream != stream_ || text.empty() || text.back() == ';') text += "d" + std::to_string(stream) + ":";
    stream_ = stream;
    text.append(bytes);
    if (fin) text += ";";
    return {};
  }
  std::string text;

 private:
  std::uint32_t stream_ = 0;
};

std::string syn_stream(SpdyHeaderEncoder& encoder, std::uint32_t id, const SpdyHeaders& headers,
                       std::uint8_t flags = 0) {
  std::string payload;
  append_spdy_word(payload, id);
  append_spdy_word(payload, 0);
  payload.append(2, '\0');
  payload.append(encoder.encode(headers));
  return spdy_control(SpdyType::kSynStream, flags, payload);
}

std::string data(std::uint32_t id, std::string_view bytes, bool fin = false) {
  return spdy_data_head(id, fin ? kSpdyFin : 0, bytes.size()).append(bytes);
}

TEST(SpdyFrame, IsTheSameWhateverTheCuts) {
  const std::string bytes = spdy_control(SpdyType::kPing, 0, "abcd") + data(3, "hello") + data(3, "", true) +
                            spdy_control(SpdyType::kGoAway, 0, "") + data(5, "x", true);
  const std::string wanted = "c6/0:abcd;d3:hello;c7/0:;d5:x;";
  for (std::size_t step = 1; step <= bytes.size(); ++step) {
    SpdyReader reader;
    Seen seen;
    for (std::size_t at = 0; at < bytes.size(); at += step) {
      ASSERT_TRUE(reader.feed(std::string_view(bytes).substr(at, step), seen));
    }
    EXPECT_EQ(seen.text, wanted) << "step " << step;
  }
}

TEST(SpdyFrame, AnotherVersionAndTooLargeControlFramesAreRefused) {
  Seen seen;
  auto old = spdy_control(SpdyType::kPing, 0, "abcd");
  old[1] = 2;
  EXPECT_EQ(SpdyReader().feed(old, seen).error().code(), Code::kInvalid);
  std::string head = spdy_control(SpdyType::kHeaders, 0, std::string(kMaxSpdyControl + 1, 'x')).substr(0, 8);
  EXPECT_EQ(SpdyReader().feed(head, seen).error().code(), Code::kExhausted);
}

TEST(SpdyHeaders, SurviveTheWayAndShareOneDictionaryAndStream) {
  SpdyHeaderEncoder encoder;
  SpdyHeaderDecoder decoder;
  const SpdyHeaders first = {{"streamtype", "error"}, {"port", "80"}, {"requestid", "0"}};
  const std::string block = encoder.encode(first);
  ASSERT_TRUE(decoder.decode(block));
  const std::string again = encoder.encode(first);
  EXPECT_LT(again.size(), block.size());
  const auto decoded = decoder.decode(again);
  ASSERT_TRUE(decoded) << decoded.error().text();
  EXPECT_EQ(*decoded, first);
  EXPECT_EQ(spdy_header(*decoded, "port"), "80");
  EXPECT_EQ(spdy_header(*decoded, "host"), "");
}

TEST(SpdyHeaders, NamesHaveNoCase) {
  SpdyHeaderEncoder encoder;
  SpdyHeaderDecoder decoder;
  const auto decoded = decoder.decode(encoder.encode({{"StreamType", "Data"}}));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(spdy_header(*decoded, "streamtype"), "Data");
}

// As any zlib stream without our dictionary, and cut.
TEST(SpdyHeaders, WhatIsNoBlockIsRefused) {
  std::string plain(64, '\0');
  uLongf size = plain.size();
  const std::string text(4, '\0');
  ASSERT_EQ(::compress(reinterpret_cast<Bytef*>(plain.data()), &size, reinterpret_cast<const Bytef*>(text.data()), 4),
            Z_OK);
  EXPECT_EQ(SpdyHeaderDecoder().decode(plain.substr(0, size)).error().code(), Code::kCorrupt);
  EXPECT_EQ(SpdyHeaderDecoder().decode("no zlib at all").error().code(), Code::kCorrupt);
  SpdyHeaderEncoder encoder;
  const std::string whole = encoder.encode({{"streamtype", "data"}});
  EXPECT_FALSE(SpdyHeaderDecoder().decode(whole.substr(0, whole.size() / 2)));
}

TEST(SpdyHeaders, AreBoundedBeforeTheyAreKept) {
  SpdyHeaderEncoder encoder;
  SpdyHeaderDecoder decoder;
  const std::string bomb = encoder.encode({{"a", std::string(16U << 20, 'a')}});
  EXPECT_LT(bomb.size(), 128U << 10);
  EXPECT_EQ(decoder.decode(bomb).error().code(), Code::kExhausted);
  SpdyHeaders many;
  for (std::size_t i = 0; i <= kMaxSpdyHeaders; ++i) many.emplace_back("n", "v");
  SpdyHeaderEncoder other;
  EXPECT_EQ(SpdyHeaderDecoder().decode(other.encode(many)).error().code(), Code::kExhausted);
}

class Peer final : public SpdyHandler {
 public:
  void on_stream(std::uint32_t id, const SpdyHeaders& headers) override {
    if (spdy_header(headers, "streamtype") == "refused") return session->reset(id);
    session->accept_stream(id);
  }
  void on_data(std::uint32_t id, std::string_view bytes) override {
    events += std::to_string(id) + std::string(bytes) + " ";
  }
  void on_end(std::uint32_t id) override { events += std::to_string(id) + "end "; }
  void on_reset(std::uint32_t id) override { events += std::to_string(id) + "reset "; }
  void on_writable() override {}
  void on_gone(const Error& why) override { gone = why.text(); }

  SpdySession* session = nullptr;
  std::string events;
  std::string gone;
};

class SessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    peer->session = session.get();
    wire->start(session);
  }
  std::shared_ptr<TestWire> wire = std::make_shared<TestWire>();
  std::shared_ptr<Peer> peer = std::make_shared<Peer>();
  std::shared_ptr<SpdySession> session = std::make_shared<SpdySession>(wire, peer);
  SpdyHeaderEncoder encoder;
};

TEST_F(SessionTest, AStreamGoesBothWaysAndEndsWithBothSides) {
  wire->receive(syn_stream(encoder, 1, {{"streamtype", "data"}}));
  ASSERT_EQ(wire->sent().size(), 1U);
  EXPECT_EQ(wire->sent()[0].substr(0, 4), std::string("\x80\x03\x00\x02", 4));
  wire->receive(data(1, "in", true));
  session->send(1, "out", true);
  EXPECT_EQ(wire->sent()[1], data(1, "out", true));
  // It is forgotten by now: neither direction is heard.
  session->send(1, "more", false);
  wire->receive(data(1, "late"));
  EXPECT_EQ(wire->sent().size(), 2U);
  EXPECT_EQ(peer->events, "1in 1end ");
}

TEST_F(SessionTest, APingIsAnsweredAndARefusedStreamReset) {
  wire->receive(spdy_control(SpdyType::kPing, 0, std::string("\0\0\0\1", 4)));
  EXPECT_EQ(wire->sent()[0], spdy_control(SpdyType::kPing, 0, std::string("\0\0\0\1", 4)));
  wire->receive(syn_stream(encoder, 1, {{"streamtype", "refused"}}));
  EXPECT_EQ(wire->sent()[1], spdy_control(SpdyType::kRstStream, 0, std::string("\0\0\0\1\0\0\0\3", 8)));
}

TEST_F(SessionTest, ALongPieceIsCutAndASessionSaysGoodbye) {
  wire->receive(syn_stream(encoder, 1, {{"streamtype", "data"}}));
  session->send(1, std::string(150U << 10, 'x'), false);
  EXPECT_EQ(wire->sent().size(), 1U + 3U);
  session->close();
  EXPECT_TRUE(wire->closed());
  EXPECT_EQ(wire->sent().back(), spdy_control(SpdyType::kGoAway, 0, std::string("\0\0\0\1\0\0\0\0", 8)));
  EXPECT_EQ(peer->gone, "");
}

TEST_F(SessionTest, NumbersThatFallEndIt) {
  wire->receive(syn_stream(encoder, 3, {{"streamtype", "data"}}));
  wire->receive(syn_stream(encoder, 1, {{"streamtype", "data"}}));
  EXPECT_NE(peer->gone.find("SYN_STREAM with number 1"), std::string::npos) << peer->gone;
  EXPECT_TRUE(wire->closed());
}

TEST_F(SessionTest, TooManyStreamsAreRefusedAndTheOthersGoOn) {
  for (std::uint32_t i = 0; i <= SpdySession::kMaxStreams; ++i) {
    wire->receive(syn_stream(encoder, 2 * i + 1, {{"streamtype", "data"}}));
  }
  std::string payload;
  append_spdy_word(payload, 2 * SpdySession::kMaxStreams + 1);
  append_spdy_word(payload, 3);
  EXPECT_EQ(wire->sent().back(), spdy_control(SpdyType::kRstStream, 0, payload));
  wire->receive(data(1, "on"));
  EXPECT_EQ(peer->events, "1on ");
}

TEST_F(SessionTest, APeersResetAndItsEndAreTold) {
  wire->receive(syn_stream(encoder, 1, {{"streamtype", "data"}}));
  wire->receive(spdy_control(SpdyType::kRstStream, 0, std::string("\0\0\0\1\0\0\0\5", 8)));
  wire->break_off();
  EXPECT_EQ(peer->events, "1reset ");
  EXPECT_NE(peer->gone, "");
}

}  // namespace
}  // namespace berth::stream
