#include "network/host_fixture_test.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cstring>

#include "os/link.h"
#include "os/netlink.h"
#include "os/netns.h"
#include "os/spawn.h"

namespace berth::network {
namespace {

constexpr std::string_view kWord = "hello";

sockaddr_in address_of(const std::string& text, std::uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  ::inet_pton(AF_INET, text.c_str(), &out.sin_addr);
  return out;
}

bool ready(int fd, short events, int wait_ms) {
  pollfd wait{fd, events, 0};
  return ::poll(&wait, 1, wait_ms) == 1;
}

std::string text_of(const sockaddr_in& address) {
  return os::format_ipv4({ntohl(address.sin_addr.s_addr)});
}

Result<> set_up_link(const std::string& name, os::Ipv4 address, bool gateway) {
  BERTH_ASSIGN(auto route, os::NetlinkSocket::open(NETLINK_ROUTE), "route");
  BERTH_ASSIGN(const auto link, os::find_link(route, name), "find");
  if (!link) return fail(Code::kNotFound, name);
  os::NetlinkBatch batch;
  os::put_link_up(batch, "lo");
  os::put_link_up(batch, name);
  os::put_address(batch, link->index, address, 24);
  if (gateway) os::put_default_route(batch, link->index, *os::parse_ipv4(TestHost::kOutsideAddress));
  return route.transact(batch);
}

}  // namespace

std::string TestHost::make() {
  auto node = os::create_netns();
  auto outside = os::create_netns();
  if (!node || !outside) return "no network namespace: " + (node ? outside : node).error().text();
  node_ = std::move(*node);
  outside_ = std::move(*outside);
  auto made = os::run_in_netns(node_.get(), [this]() -> Result<> {
    BERTH_ASSIGN(auto route, os::NetlinkSocket::open(NETLINK_ROUTE), "route");
    os::NetlinkBatch batch;
    os::put_create_veth(batch, {"uplink0", 0, "uplink0", outside_.get(), {}, 0});
    BERTH_TRY(route.transact(batch), "uplink");
    return set_up_link("uplink0", *os::parse_ipv4(kNodeAddress), true);
  });
  if (made) {
    made = os::run_in_netns(outside_.get(),
                            [] { return set_up_link("uplink0", *os::parse_ipv4(kOutsideAddress), false); });
  }
  return made ? "" : made.error().text();
}

int TestHost::pod(const std::string& name) {
  auto& fd = pods_[name];
  if (!fd) {
    auto made = os::create_netns();
    EXPECT_TRUE(made);
    if (made) fd = std::move(*made);
  }
  return fd.get();
}

PodNetwork TestHost::request(const std::string& name, std::vector<PortMapping> ports) {
  PodNetwork out;
  out.sandbox_id = name;
  out.pod_name = name + "-pod";
  out.pod_namespace = "default";
  out.pod_uid = name + "-uid";
  out.netns_fd = pod(name);
  out.netns_path = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(out.netns_fd);
  out.ports = std::move(ports);
  return out;
}

void TestHost::in(int netns_fd, const std::function<void()>& work) {
  auto done = os::run_in_netns(netns_fd, [&work]() -> Result<> {
    work();
    return {};
  });
  EXPECT_TRUE(done) << done.error().text();
}

std::string TestHost::output_of(int netns_fd, const std::vector<std::string>& argv) {
  std::string text;
  in(netns_fd, [&] {
    os::RunOptions options;
    options.spawn.argv = argv;
    options.spawn.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"};
    options.timeout = std::chrono::seconds(20);
    auto ran = os::run(std::move(options));
    ASSERT_TRUE(ran) << ran.error().text();
    EXPECT_EQ(ran->exit_code, 0) << argv.front() << ": " << ran->err;
    text = ran->out;
  });
  return text;
}

std::vector<std::string> TestHost::links() const {
  std::vector<std::string> names;
  in(node(), [&names] {
    auto route = os::NetlinkSocket::open(NETLINK_ROUTE);
    ASSERT_TRUE(route);
    os::NetlinkBatch request;
    ifinfomsg header{};
    request.begin(RTM_GETLINK, NLM_F_DUMP, header, "list links");
    request.end();
    auto dumped = route->dump(request, [&names](std::uint16_t, std::span<const std::byte> payload) {
      os::for_each_attribute(payload.subspan(sizeof(ifinfomsg)),
                             [&names](std::uint16_t type, std::span<const std::byte> value) {
                               if (type != IFLA_IFNAME) return;
                               const std::string name = os::attribute_string(value);
                               if (name != "lo" && name != "uplink0") names.push_back(name);
                             });
    });
    EXPECT_TRUE(dumped) << dumped.error().text();
  });
  return names;
}

TestServer::TestServer(int netns_fd, const std::string& protocol, std::uint16_t port) : tcp_(protocol == "tcp") {
  TestHost::in(netns_fd, [&] {
    socket_.reset(::socket(AF_INET, (tcp_ ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
    const int on = 1;
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const sockaddr_in any = address_of("0.0.0.0", port);
    ASSERT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any), 0) << std::strerror(errno);
    if (tcp_) {
      ASSERT_EQ(::listen(socket_.get(), 64), 0);
    }
  });
}

std::string TestServer::talk(int from_netns_fd, const std::string& address, std::uint16_t port, int wait_ms) const {
  std::string result;
  TestHost::in(from_netns_fd, [&] {
    const UniqueFd client(::socket(AF_INET, (tcp_ ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sockaddr_in to = address_of(address, port);
    if (::connect(client.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS) {
      result = std::string("connect: ") + std::strerror(errno);
      return;
    }
    result = tcp_ ? talk_tcp(client.get(), wait_ms) : talk_udp(client.get(), wait_ms);
  });
  return result;
}

std::string TestServer::talk_tcp(int client, int wait_ms) const {
  if (!ready(client, POLLOUT, wait_ms)) return "connect: timeout";
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return std::string("connect: ") + std::strerror(error);
  if (!ready(socket_.get(), POLLIN, wait_ms)) return "accept: another server answered";
  sockaddr_in peer{};
  size = sizeof peer;
  const UniqueFd served(::accept4(socket_.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
  if (!served) return std::string("accept: ") + std::strerror(errno);
  std::array<char, 16> buffer{};
  if (::send(served.get(), kWord.data(), kWord.size(), MSG_NOSIGNAL) < 0) return "send: failed";
  if (!ready(client, POLLIN, wait_ms)) return "receive: timeout";
  const auto got = ::recv(client, buffer.data(), buffer.size(), 0);
  return got == static_cast<ssize_t>(kWord.size()) ? text_of(peer) : "receive: wrong";
}

std::string TestServer::talk_udp(int client, int wait_ms) const {
  if (::send(client, kWord.data(), kWord.size(), MSG_NOSIGNAL) < 0) return std::string("send: ") + std::strerror(errno);
  if (!ready(socket_.get(), POLLIN, wait_ms)) return "server: timeout";
  std::array<char, 16> buffer{};
  sockaddr_in peer{};
  socklen_t size = sizeof peer;
  const auto got =
      ::recvfrom(socket_.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&peer), &size);
  if (got < 0) return "server: failed";
  ::sendto(socket_.get(), buffer.data(), static_cast<std::size_t>(got), 0, reinterpret_cast<sockaddr*>(&peer), size);
  if (!ready(client, POLLIN, wait_ms)) return "receive: timeout";
  return ::recv(client, buffer.data(), buffer.size(), 0) == got ? text_of(peer) : "receive: wrong";
}

}  // namespace berth::network
