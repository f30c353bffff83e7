#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <utility>

#include "base/base64.h"
#include "fixture.h"
#include "os/file.h"
#include "process.h"
#include "remote_session.h"
#include "wait.h"
#include "websocket_client.h"

// Exec and PortForward over WebSocket, plain and with TLS, through the URLs that the CRI answers.
namespace berth::test {
namespace {

using testing::HasSubstr;

struct Node {
  static TestHostOptions options() { return {}; }
};

// All messages until the connection's end, by channel.
struct Received {
  std::map<int, std::string> channels;
  std::string& operator[](int channel) { return channels[channel]; }

  void take(std::string_view message, bool base64) {
    if (message.empty()) return;
    const std::string_view body = message.substr(1);
    if (base64) {
      channels[message.front() - '0'] += base64_decode(body).value_or("not base64");
    } else {
      channels[static_cast<unsigned char>(message.front())] += body;
    }
  }
  /// Until the server closes, or channel 1 has `text`.
  void read(WebSocketClient& client, const std::string& text = {}, bool base64 = false) {
    while (text.empty() || channels[1].find(text) == std::string::npos) {
      const auto message = client.read();
      if (!message) {
        EXPECT_EQ(message.error().code(), Code::kUnavailable) << message.error().text();
        return;
      }
      take(*message, base64);
    }
  }
};

class WebSocketTest : public HostTest<Node> {
 protected:
  static Running pod(const std::string& script = "sleep 1000") {
    return start("websocket", host().shell_config("main", script));
  }
  static std::unique_ptr<WebSocketClient> exec(const std::string& container, const std::string& script,
                                               const StreamSet& set, const std::string& protocol) {
    auto client =
        must(WebSocketClient::connect(exec_url(cri(), container, {"/bin/sh", "-c", script}, set), {"x", protocol}));
    EXPECT_EQ(client->protocol(), protocol);
    return client;
  }
};

constexpr std::string_view kEndOfInput{"\xff\0", 2};

TEST_F(WebSocketTest, Version5EndsItsInput) {
  const auto running = pod();
  const auto client = exec(running.container, "cat; echo err >&2; exit 4", {.in = true}, "v5.channel.k8s.io");
  ASSERT_TRUE(ok(client->send(std::string("\0in", 3))));
  ASSERT_TRUE(ok(client->send(std::string("\0put\n", 5))));
  ASSERT_TRUE(ok(client->send(kEndOfInput)));
  Received received;
  received.read(*client);
  EXPECT_EQ(received[1], "input\n");
  EXPECT_EQ(received[2], "err\n");
  EXPECT_THAT(received[3], HasSubstr(R"({"message":"4","reason":"ExitCode"})"));
}

TEST_F(WebSocketTest, ATerminalAndItsSize) {
  const auto running = pod();
  const auto client = exec(running.container, "read x; stty size", {.in = true, .out = true, .err = false, .tty = true},
                           "v4.channel.k8s.io");
  ASSERT_TRUE(ok(client->send("\4{\"Width\":91,\"Height\":17}")));
  ASSERT_TRUE(ok(client->send(std::string("\0go\n", 4))));
  Received received;
  received.read(*client);
  EXPECT_THAT(received[1], HasSubstr("17 91"));
  EXPECT_THAT(received[3], HasSubstr("Success"));
}

TEST_F(WebSocketTest, Base64InTextMessages) {
  const auto running = pod();
  const auto client = exec(running.container, "read x; echo got $x", {.in = true}, "v4.base64.channel.k8s.io");
  ASSERT_TRUE(ok(client->send("0" + base64_encode("a line\n"), true)));
  Received received;
  received.read(*client, {}, true);
  EXPECT_EQ(received[1], "got a line\n");
  EXPECT_THAT(received[3], HasSubstr("Success"));
}

TEST_F(WebSocketTest, ManyMegabytesBothWays) {
  const auto running = pod();
  const auto client = exec(running.container, "cat", {.in = true}, "v5.channel.k8s.io");
  // A round trip at a time: this client has one thread.
  Pattern sent(16U << 20);
  Pattern received(16U << 20);
  std::size_t behind = 0;
  while (true) {
    const std::string piece = sent.next(48U << 10);
    if (piece.empty()) break;
    ASSERT_TRUE(ok(client->send(std::string(1, '\0') + piece)));
    behind += piece.size();
    while (behind > 0) {
      const auto message = must(client->read());
      if (message.size() < 2 || message.front() != 1) continue;
      received.check(std::string_view(message).substr(1));
      behind -= std::min(behind, message.size() - 1);
    }
  }
  EXPECT_TRUE(received.whole());
  ASSERT_TRUE(ok(client->send(kEndOfInput)));
  Received rest;
  rest.read(*client);
  EXPECT_EQ(rest[1], "");
}

TEST_F(WebSocketTest, AProtocolThatIsNotSpokenIsRefused) {
  const auto running = pod();
  const auto client = WebSocketClient::connect(exec_url(cri(), running.container, {"true"}, {}), {"v9.channel.k8s.io"});
  EXPECT_TRUE(fails(client, Code::kUnavailable, "403"));
}

// What the streams of a tunnelled connection gave.
class Tunnel final : public stream::SpdyFrames {
 public:
  explicit Tunnel(WebSocketClient& client) : client_(client) {}
  std::uint32_t open(const char* type, const std::string& port) {
    const std::uint32_t id = std::exchange(next_, next_ + 2);
    std::string payload;
    stream::append_spdy_word(payload, id);
    payload.append(6, '\0');
    payload += encoder_.encode({{"streamtype", type}, {"port", port}, {"requestid", "1"}});
    must(client_.send(stream::spdy_control(stream::SpdyType::kSynStream, 0, payload)));
    return id;
  }
  void write(std::uint32_t id, std::string_view bytes, bool fin) {
    must(client_.send(stream::spdy_data_head(id, fin ? stream::kSpdyFin : 0, bytes.size()).append(bytes)));
  }
  void read_until_end_of(std::uint32_t id) {
    while (!ended_.contains(id)) must(reader_.feed(must(client_.read()), *this));
  }
  Result<> on_control(stream::SpdyType /*type*/, std::uint8_t /*flags*/, std::string_view /*payload*/) override {
    return {};
  }
  Result<> on_data(std::uint32_t id, std::string_view bytes, bool fin) override {
    data[id] += bytes;
    if (fin) ended_.insert(id);
    return {};
  }
  std::map<std::uint32_t, std::string> data;

 private:
  WebSocketClient& client_;
  stream::SpdyReader reader_;
  stream::SpdyHeaderEncoder encoder_;
  std::uint32_t next_ = 1;
  std::set<std::uint32_t> ended_;
};

constexpr const char* kEcho = "nc -ll -p 7 -e cat & nc -ll -p 80 -e echo hello & wait";

TEST_F(WebSocketTest, ATunnelledPortForward) {
  const auto running = pod(kEcho);
  ASSERT_TRUE(wait_until(std::chrono::seconds(20), [&] {
    const auto list = cri().shell(running.container, "netstat -ltn");
    return list && list->find(":7 ") != std::string::npos && list->find(":80 ") != std::string::npos;
  }));
  constexpr const char* kProtocol = "SPDY/3.1+portforward.k8s.io";
  const auto client = must(WebSocketClient::connect(forward_url(cri(), running.pod), {kProtocol}));
  EXPECT_EQ(client->protocol(), kProtocol);
  Tunnel tunnel(*client);
  const auto error = tunnel.open("error", "7");
  const auto data = tunnel.open("data", "7");
  tunnel.write(error, "", true);
  tunnel.write(data, "through the tunnel", true);
  tunnel.read_until_end_of(error);
  EXPECT_EQ(tunnel.data[data], "through the tunnel");
  EXPECT_EQ(tunnel.data[error], "");

  // And the older protocol, whose ports are named beforehand: each channel begins with its port's number.
  const auto old = must(WebSocketClient::connect(forward_url(cri(), running.pod, {7, 80}), {"v4.channel.k8s.io"}));
  ASSERT_TRUE(ok(old->send(std::string("\0ping", 5))));
  Received received;
  while (received[0].size() < 6 || received[2].size() < 8) received.take(must(old->read()), false);
  EXPECT_EQ(received[0], std::string("\7\0ping", 6));
  EXPECT_EQ(received[2], std::string("\x50\0hello\n", 8));
  EXPECT_EQ(received[1], std::string("\7\0", 2));
}

// A server that was started as it should not be any more is followed by another; its sessions stay.
TEST_F(WebSocketTest, TlsByConfigurationAndTheOldSessionsGoOn) {
  const std::string cert = host().dir() + "/stream.crt";
  const std::string key = host().dir() + "/stream.key";
  const auto certify = [&] {
    must(run_program({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                      "-days", "2", "-subj", "/CN=berth", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key,
                      "-out", cert}));
  };
  certify();
  const auto running = pod();
  const auto before = exec(running.container, "cat", {.in = true}, "v5.channel.k8s.io");
  ASSERT_TRUE(ok(before->send(std::string("\0one\n", 5))));
  Received first;
  first.read(*before, "one\n");
  const std::string drop_in = host().dir() + "/config.d/stream.toml";
  must(os::make_dirs(host().dir() + "/config.d"));
  must(os::write_file_atomic(drop_in, "[stream]\ntls_cert = \"" + cert + "\"\ntls_key = \"" + key + "\"\n"));
  ASSERT_TRUE(ok(host().stop_daemon()));
  ASSERT_TRUE(ok(host().start_daemon()));
  const std::string url = exec_url(cri(), running.container, {"echo", "secret"}, {});
  EXPECT_THAT(url, testing::StartsWith("https://127.0.0.1:"));
  const auto client = must(WebSocketClient::connect(url, {"v5.channel.k8s.io"}, cert));
  Received received;
  received.read(*client);
  EXPECT_EQ(received[1], "secret\n");
  // A renewed certificate is what the next client sees: it trusts no other.
  certify();
  const auto renewed = must(
      WebSocketClient::connect(exec_url(cri(), running.container, {"echo", "new"}, {}), {"v5.channel.k8s.io"}, cert));
  Received again;
  again.read(*renewed);
  EXPECT_EQ(again[1], "new\n");
  ASSERT_TRUE(ok(before->send(std::string("\0two\n", 5))));
  first.read(*before, "two\n");
  EXPECT_EQ(first[1], "one\ntwo\n");
  ASSERT_TRUE(ok(before->send(kEndOfInput)));
  first.read(*before);
  EXPECT_THAT(first[3], HasSubstr("Success"));
  // Later tests, and what looks for leaks, have the first configuration again.
  must(os::remove_file(drop_in));
  ASSERT_TRUE(ok(host().stop_daemon()));
  ASSERT_TRUE(ok(host().start_daemon()));
}

}  // namespace
}  // namespace berth::test
