#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "fixture.h"
#include "os/netns.h"
#include "os/socket.h"
#include "os/tcp.h"
#include "remote_session.h"
#include "wait.h"

// PortForward through the CRI socket and the URL that it answers, as kubectl speaks it.
namespace berth::test {
namespace {

using testing::HasSubstr;

struct Node {
  static TestHostOptions options() { return {}; }
};

// Each connection to port 7 comes back as it is; to port 9 it is told when its input has ended; port 80 says hello.
constexpr const char* kServers =
    "nc -ll -p 7 -e cat & nc -ll -p 9 -e sh -c 'n=$(wc -c); echo $n bytes' & nc -ll -p 80 -e echo hello & wait";

class PortForwardTest : public HostTest<Node> {
 protected:
  struct Connection {
    std::uint32_t error = 0;
    std::uint32_t data = 0;
  };
  static Connection open(SpdyClient& client, const std::string& port) {
    static int request = 0;
    const std::string number = std::to_string(++request);
    Connection connection;
    connection.error = client.open({{"streamtype", "error"}, {"port", port}, {"requestid", number}});
    connection.data = client.open({{"streamtype", "data"}, {"port", port}, {"requestid", number}});
    // As kubectl does at once.
    EXPECT_TRUE(ok(client.write(connection.error, {}, true)));
    return connection;
  }
  static Result<> finish(SpdyClient& client, const Connection& connection) {
    return client.read_until([&] { return client.at(connection.error).ended; });
  }
  static Running servers() {
    const auto running = start("ports", host().shell_config("main", kServers));
    EXPECT_TRUE(wait_until(std::chrono::seconds(20), [&] {
      const auto list = cri().shell(running.container, "netstat -ltn");
      return list && list->find(":80 ") != std::string::npos && list->find(":7 ") != std::string::npos &&
             list->find(":9 ") != std::string::npos;
    }));
    return running;
  }
};

TEST_F(PortForwardTest, BothWaysAndHalfClose) {
  const auto running = servers();
  const auto client = must(SpdyClient::connect(forward_url(cri(), running.pod), {"portforward.k8s.io"}));
  EXPECT_EQ(client->protocol(), "portforward.k8s.io");
  const auto hello = open(*client, "80");
  ASSERT_TRUE(ok(finish(*client, hello)));
  EXPECT_EQ(client->at(hello.data).data, "hello\n");
  EXPECT_EQ(client->at(hello.error).data, "");
  EXPECT_TRUE(client->at(hello.data).ended);
  const auto counted = open(*client, "9");
  ASSERT_TRUE(ok(client->write(counted.data, "12345")));
  ASSERT_TRUE(ok(client->write(counted.data, "67890", true)));
  ASSERT_TRUE(ok(finish(*client, counted)));
  EXPECT_EQ(client->at(counted.data).data, "10 bytes\n");
}

TEST_F(PortForwardTest, WhatBreaksOneLeavesTheOthers) {
  const auto running = servers();
  const auto client = must(SpdyClient::connect(forward_url(cri(), running.pod), {"portforward.k8s.io"}));
  const auto good = open(*client, "7");
  ASSERT_TRUE(ok(client->write(good.data, "before ")));
  const auto refused = open(*client, "81");
  ASSERT_TRUE(ok(finish(*client, refused)));
  EXPECT_THAT(client->at(refused.error).data, HasSubstr("error forwarding port 81"));
  EXPECT_THAT(client->at(refused.error).data, HasSubstr("Connection refused"));
  const auto given_up = open(*client, "7");
  ASSERT_TRUE(ok(client->write(given_up.data, "x")));
  ASSERT_TRUE(ok(client->reset(given_up.data)));
  ASSERT_TRUE(ok(client->write(good.data, "after", true)));
  ASSERT_TRUE(ok(finish(*client, good)));
  EXPECT_EQ(client->at(good.data).data, "before after");
}

// Sends each connection back what it says, from within the pod's network.
class EchoServer final {
 public:
  EchoServer(const std::string& pod, unsigned port) {
    const auto netns = must(os::open_file("/proc/" + std::to_string(shim_of(pod)) + "/ns/net", O_RDONLY));
    must(os::run_in_netns(netns.get(), [&]() -> Result<> {
      BERTH_ASSIGN(listener_, os::tcp_listen("127.0.0.1", port), "listen");
      return {};
    }));
    thread_ = std::thread([this] { serve(); });
  }
  ~EchoServer() {
    stop_ = true;
    thread_.join();
  }
  EchoServer(const EchoServer&) = delete;
  EchoServer& operator=(const EchoServer&) = delete;
  EchoServer(EchoServer&&) = delete;
  EchoServer& operator=(EchoServer&&) = delete;

 private:
  void serve() {
    std::vector<std::thread> connections;
    while (!stop_) {
      pollfd poll{listener_.get(), POLLIN, 0};
      if (::poll(&poll, 1, 50) <= 0) continue;
      auto connection = os::accept_connection(listener_.get());
      if (!connection || !*connection) continue;
      connections.emplace_back([socket = std::move(**connection)] { echo(socket.get()); });
    }
    for (auto& connection : connections) connection.join();
  }
  static void echo(int socket) {
    ignore(os::set_nonblocking(socket, false), "the reads tell");
    std::vector<char> buffer(256U << 10);
    while (true) {
      const ssize_t count = ::read(socket, buffer.data(), buffer.size());
      if (count <= 0) return;
      if (!os::write_all(socket, std::string_view(buffer.data(), static_cast<std::size_t>(count)))) return;
    }
  }

  UniqueFd listener_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST_F(PortForwardTest, FiftyAtOnce) {
  const auto running = start("fifty", host().shell_config("main", "sleep 1000"));
  const EchoServer server(running.pod, 7);
  const auto client = must(SpdyClient::connect(forward_url(cri(), running.pod), {"portforward.k8s.io"}));
  std::vector<Connection> connections;
  for (int i = 0; i < 50; ++i) {
    connections.push_back(open(*client, "7"));
    ASSERT_TRUE(ok(client->write(connections.back().data, "connection " + std::to_string(i), true)));
  }
  for (std::size_t i = 0; i < connections.size(); ++i) {
    ASSERT_TRUE(ok(finish(*client, connections[i])));
    EXPECT_EQ(client->at(connections[i].error).data, "");
    EXPECT_EQ(client->at(connections[i].data).data, "connection " + std::to_string(i));
  }
}

// More than a session has room for at once.
TEST_F(PortForwardTest, ManyOneAfterAnother) {
  const auto running = start("many", host().shell_config("main", "sleep 1000"));
  const EchoServer server(running.pod, 7);
  const auto client = must(SpdyClient::connect(forward_url(cri(), running.pod), {"portforward.k8s.io"}));
  for (int i = 0; i < 1100; ++i) {
    const auto connection = open(*client, "7");
    ASSERT_TRUE(ok(client->write(connection.data, "x", true)));
    ASSERT_TRUE(ok(finish(*client, connection))) << i;
    ASSERT_EQ(client->at(connection.data).data, "x") << i;
  }
}

TEST_F(PortForwardTest, ManyMegabytesBothWays) {
  const auto running = start("bulk", host().shell_config("main", "sleep 1000"));
  const EchoServer server(running.pod, 7);
  const auto client = must(SpdyClient::connect(forward_url(cri(), running.pod), {"portforward.k8s.io"}));
  const auto echo = open(*client, "7");
  Pattern sent(64U << 20);
  Pattern received(64U << 20);
  client->tap = [&](std::uint32_t id, std::string_view bytes) {
    if (id == echo.data) received.check(bytes);
  };
  ASSERT_TRUE(ok(client->exchange(
      echo.data, [&] { return sent.next(32U << 10); }, [&] { return client->at(echo.error).ended; },
      std::chrono::seconds(60))));
  EXPECT_TRUE(received.whole());
}

TEST_F(PortForwardTest, AStuckConnectionIsGivenUpAndTheOthersGoOn) {
  const auto running =
      start("stuck", host().shell_config("main", "nc -ll -p 5 -e sleep 1000 & nc -ll -p 7 -e cat & wait"));
  ASSERT_TRUE(wait_until(std::chrono::seconds(20), [&] {
    const auto list = cri().shell(running.container, "netstat -ltn");
    return list && list->find(":5 ") != std::string::npos && list->find(":7 ") != std::string::npos;
  }));
  const auto client = must(SpdyClient::connect(forward_url(cri(), running.pod), {"portforward.k8s.io"}));
  const auto stuck = open(*client, "5");
  const std::string chunk(64U << 10, 'x');
  // More than the port and the server hold, less than the connection's own buffers add.
  std::size_t left = 192;
  bool told = false;
  ASSERT_TRUE(ok(client->exchange(
      stuck.data, [&] { return left-- > 0 ? chunk : std::string(); },
      [&] { return told = client->at(stuck.error).ended, told; }, std::chrono::seconds(60))));
  EXPECT_THAT(client->at(stuck.error).data, HasSubstr("has taken nothing"));
}

TEST_F(PortForwardTest, OutlivesTheDaemonAndEndsWithThePod) {
  const auto running = servers();
  const auto client = must(SpdyClient::connect(forward_url(cri(), running.pod), {"portforward.k8s.io"}));
  const auto echo = open(*client, "7");
  ASSERT_TRUE(ok(client->write(echo.data, "one")));
  ASSERT_TRUE(ok(client->read_until([&] { return client->at(echo.data).data == "one"; })));
  host().kill9_daemon();
  ASSERT_TRUE(ok(client->write(echo.data, " two")));
  ASSERT_TRUE(ok(client->read_until([&] { return client->at(echo.data).data == "one two"; })));
  ASSERT_TRUE(ok(host().start_daemon()));
  const auto hello = open(*client, "80");
  ASSERT_TRUE(ok(finish(*client, hello)));
  ASSERT_TRUE(ok(cri().end_pod(running.pod)));
  EXPECT_TRUE(fails(client->read_until([] { return false; }), Code::kUnavailable)) << "the connection is closed";
}

TEST_F(PortForwardTest, HostNetworkAndBadRequests) {
  auto config = host().pod_config("host");
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(pb::NODE);
  const auto pod = must(cri().run_pod(config));
  const auto client = must(SpdyClient::connect(forward_url(cri(), pod), {"portforward.k8s.io"}));
  // The test host's registry listens on its loopback.
  const auto registry = open(*client, "5000");
  ASSERT_TRUE(ok(client->write(registry.data, "GET /v2/ HTTP/1.0\r\n\r\n", true)));
  ASSERT_TRUE(ok(finish(*client, registry)));
  EXPECT_THAT(client->at(registry.data).data, HasSubstr("200 OK"));
  const auto bad = client->open({{"streamtype", "data"}, {"port", "0"}, {"requestid", "x"}});
  ASSERT_TRUE(ok(client->read_until([&] { return client->at(bad).reset; })));
  pb::PortForwardRequest request;
  request.set_pod_sandbox_id("nobody");
  EXPECT_TRUE(fails(cri().call(&Runtime::PortForward, request), Code::kNotFound));
  request.set_pod_sandbox_id(pod);
  request.add_port(70000);
  EXPECT_TRUE(fails(cri().call(&Runtime::PortForward, request), Code::kInvalid, "70000"));
  ASSERT_TRUE(ok(cri().stop_pod(pod)));
  request.clear_port();
  EXPECT_TRUE(fails(cri().call(&Runtime::PortForward, request), Code::kPrecondition, "not ready"));
}

}  // namespace
}  // namespace berth::test
