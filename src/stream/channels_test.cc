#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/base64.h"
#include "stream/channels.h"
#include "stream/spdy_session.h"
#include "stream/test_wire.h"
#include "stream/tokens.h"

namespace berth::stream {
namespace {

constexpr ChannelSet kAll{.in = true, .out = true, .err = true, .terminal = false};
constexpr ChannelSet kTerminal{.in = true, .out = true, .err = false, .terminal = true};

struct Connection {
  std::shared_ptr<TestWire> wire = std::make_shared<TestWire>();
  std::shared_ptr<TestSession> session = std::make_shared<TestSession>();
  std::shared_ptr<Channels> channels;

  void web_socket(const ChannelSet& set, std::string_view protocol) {
    channels = websocket_channels(wire, set, protocol);
    channels->start(session);
  }
};

TEST(WebSocketChannels, BytesGoByTheirNumber) {
  Connection c;
  c.web_socket(kTerminal, "v4.channel.k8s.io");
  EXPECT_TRUE(c.session->open);
  EXPECT_EQ(c.wire->sent().at(0), std::string("\1", 1));
  c.wire->receive(std::string("\0in", 3));
  c.wire->receive("put", false);
  c.wire->receive("\4{\"Width\":1}");
  c.wire->receive("\2nobody reads this");
  c.channels->send(Channel::kStdout, "out");
  EXPECT_EQ(c.session->input, "input");
  EXPECT_EQ(c.session->sizes, "{\"Width\":1}");
  EXPECT_EQ(c.wire->sent().back(), "\1out");
  // A terminal has one output.
  c.channels->send(Channel::kStderr, "err");
  EXPECT_EQ(c.wire->sent().size(), 2U);
}

TEST(WebSocketChannels, OnlyVersion5EndsAChannel) {
  Connection old;
  old.web_socket(kAll, "v4.channel.k8s.io");
  old.wire->receive(std::string("\xff\0", 2));
  EXPECT_EQ(old.session->ends, 0U);
  Connection c;
  c.web_socket(kAll, "v5.channel.k8s.io");
  c.wire->receive(std::string("\xff\1", 2));
  EXPECT_EQ(c.session->ends, 0U);
  c.wire->receive(std::string("\xff\0", 2));
  EXPECT_EQ(c.session->ends, 1U);
}

TEST(WebSocketChannels, Base64IsTheSameWhateverTheCuts) {
  const std::string text = "0" + base64_encode("some input");
  for (std::size_t step = 1; step <= text.size(); ++step) {
    Connection c;
    c.web_socket(kAll, "base64.channel.k8s.io");
    for (std::size_t at = 0; at < text.size(); at += step) c.wire->receive(text.substr(at, step), at == 0);
    EXPECT_EQ(c.session->input, "some input") << step;
    c.channels->send(Channel::kStderr, "err");
    EXPECT_EQ(c.wire->sent().back(), "2" + base64_encode("err"));
  }
}

TEST(WebSocketChannels, AMessageWithoutEndIsRefused) {
  Connection c;
  c.web_socket(kAll, "v4.base64.channel.k8s.io");
  c.wire->receive("0", true);
  for (int i = 0; i < 80 && !c.wire->closed(); ++i) c.wire->receive(std::string((1U << 16) + 1, '!'), false);
  EXPECT_TRUE(c.wire->closed());
  EXPECT_EQ(c.session->gone, 1U);
  EXPECT_NE(c.session->reason.find("too large"), std::string::npos);
}

TEST(WebSocketChannels, TheOutcomeIsTheLastMessage) {
  Connection c;
  c.web_socket(kAll, "v4.channel.k8s.io");
  c.channels->finish({.exit_code = 3, .failure = {}});
  const std::string last = c.wire->sent().back();
  ASSERT_EQ(last.front(), '\3');
  const auto status = nlohmann::json::parse(last.substr(1));
  EXPECT_EQ(status["details"]["causes"][0]["message"], "3");
  EXPECT_TRUE(c.wire->closed());
  // What comes afterwards is for nobody.
  c.channels->send(Channel::kStdout, "late");
  EXPECT_EQ(c.wire->sent().back(), last);
}

TEST(SpdyChannels, WaitForAllStreamsAndKeepWhatCameEarly) {
  Connection c;
  c.channels = spdy_channels(c.wire, kAll, "v4.channel.k8s.io");
  c.channels->start(c.session);
  SpdyHeaderEncoder encoder;
  std::uint32_t id = 1;
  for (const char* name : {"stdin", "error", "stdout", "stderr", "stderr", "resize"}) {
    EXPECT_FALSE(c.session->open && id < 7) << name;
    std::string payload;
    append_spdy_word(payload, id);
    payload.append(6, '\0');
    payload += encoder.encode({{"streamtype", name}});
    c.wire->receive(spdy_control(SpdyType::kSynStream, 0, payload));
    if (id == 1) c.wire->receive(spdy_data_head(1, kSpdyFin, 5) + "early");
    id += 2;
  }
  EXPECT_TRUE(c.session->open);
  EXPECT_EQ(c.session->input, "early");
  EXPECT_EQ(c.session->ends, 1U);
  // A second of its name and one that a command without terminal has not: RST_STREAM.
  EXPECT_EQ(c.wire->sent()[c.wire->sent().size() - 1].substr(0, 4), std::string("\x80\x03\x00\x03", 4));
  EXPECT_EQ(c.wire->sent()[c.wire->sent().size() - 2].substr(0, 4), std::string("\x80\x03\x00\x03", 4));
}

TEST(SpdyChannels, TooMuchThatCameEarlyIsTheEnd) {
  Connection c;
  c.channels = spdy_channels(c.wire, kAll, "v4.channel.k8s.io");
  c.channels->start(c.session);
  SpdyHeaderEncoder encoder;
  std::string payload;
  append_spdy_word(payload, 1);
  payload.append(6, '\0');
  payload += encoder.encode({{"streamtype", "stdin"}});
  c.wire->receive(spdy_control(SpdyType::kSynStream, 0, payload));
  const std::string piece(64U << 10, 'x');
  for (int i = 0; i < 17; ++i) c.wire->receive(spdy_data_head(1, 0, piece.size()) + piece);
  EXPECT_TRUE(c.wire->closed());
  EXPECT_EQ(c.session->gone, 1U);
  EXPECT_EQ(c.session->input, "");
}

TEST(Outcome, IsAStatusFromVersion4OnAndATextBefore) {
  EXPECT_EQ(nlohmann::json::parse(outcome_text({}, true))["status"], "Success");
  EXPECT_EQ(outcome_text({}, false), "");
  EXPECT_EQ(outcome_text({.exit_code = 7, .failure = {}}, false),
            "command terminated with non-zero exit code: exit status 7");
  const auto failed = nlohmann::json::parse(outcome_text({.exit_code = 0, .failure = "no \xff shim"}, true));
  EXPECT_EQ(failed["status"], "Failure");
  EXPECT_EQ(failed["code"], 500);
}

TEST(Tokens, AreGoodOnceForTheirKind) {
  Tokens tokens(std::chrono::seconds(60));
  const auto token =
      tokens.add({.kind = SessionSpec::Kind::kAttach, .shim_socket = {}, .container_id = "c", .process_json = {}});
  ASSERT_TRUE(token);
  EXPECT_EQ(token->size(), 32U);
  EXPECT_FALSE(tokens.take("exec", *token));
  EXPECT_FALSE(tokens.take("attach", "0123"));
  EXPECT_EQ(tokens.waiting(), 1U);
  EXPECT_EQ(tokens.take("attach", *token)->container_id, "c");
  EXPECT_FALSE(tokens.take("attach", *token));
  EXPECT_EQ(tokens.waiting(), 0U);
}

TEST(Tokens, AgeAndAreBounded) {
  Tokens old(std::chrono::seconds(0));
  const auto token = old.add({});
  ASSERT_TRUE(token);
  EXPECT_FALSE(old.take("exec", *token));
  Tokens tokens(std::chrono::seconds(60));
  for (std::size_t i = 0; i < Tokens::kMax; ++i) ASSERT_TRUE(tokens.add({}));
  EXPECT_EQ(tokens.add({}).error().code(), Code::kExhausted);
}

}  // namespace
}  // namespace berth::stream
