#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "checkpoint_fixture.h"
#include "os/link.h"
#include "os/netns.h"

/// Containers whose connections move with them, by the real criu, in network namespaces of the test's own. Needs root.
namespace berth::oci {
namespace {

using ::testing::HasSubstr;
using namespace berth::oci::testing;  // NOLINT(google-build-using-namespace): a test's own fixture

/// A network namespace for the test's own end of a connection, and further ones, each the network of a container.
class Networks {
 public:
  static constexpr std::uint16_t kPort = 5555;
  static constexpr os::Ipv4 kOurs{0x0a090001};
  static constexpr os::Ipv4 kTheirs{0x0a090002};

  Result<> open() {
    BERTH_ASSIGN(ours_, os::create_netns(), "netns");
    BERTH_TRY(plug(), "network");
    return os::run_in_netns(ours_.get(), [this] { return listen(); });
  }
  /// A new network at kTheirs in place of the last one, as whoever moves a container makes it.
  Result<> plug() {
    BERTH_ASSIGN(UniqueFd next, os::create_netns(), "netns");
    BERTH_TRY(os::run_in_netns(ours_.get(), [&] { return connect(next.get()); }), "our end");
    BERTH_TRY(os::run_in_netns(next.get(), [] { return set_up("eth0", kTheirs); }), "their end");
    theirs_ = std::move(next);
    return {};
  }
  [[nodiscard]] std::string path() const {
    return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(theirs_.get());
  }
  [[nodiscard]] int server() const { return server_.get(); }

 private:
  Result<> connect(int netns_fd) {
    BERTH_ASSIGN(auto route, os::NetlinkSocket::open(NETLINK_ROUTE), "route");
    os::NetlinkBatch batch;
    if (theirs_.valid()) os::put_delete_link(batch, "peer");
    os::put_create_veth(batch, {"peer", 0, "eth0", netns_fd, {0x0a, 0x58, 10, 9, 0, 2}, 0});
    BERTH_TRY(route.transact(batch), "veth");
    return set_up("peer", kOurs);
  }
  static Result<> set_up(const std::string& name, os::Ipv4 own) {
    BERTH_ASSIGN(auto route, os::NetlinkSocket::open(NETLINK_ROUTE), "route");
    BERTH_ASSIGN(const auto link, os::find_link(route, name), "link");
    if (!link) return fail(Code::kNotFound, name);
    os::NetlinkBatch batch;
    os::put_address(batch, link->index, own, 24);
    os::put_link_up(batch, name);
    return route.transact(batch);
  }
  Result<> listen() {
    server_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(kPort);
    address.sin_addr.s_addr = htonl(kOurs.value);
    const auto* const generic = reinterpret_cast<const sockaddr*>(&address);
    if (::bind(server_.get(), generic, sizeof address) != 0) return fail_errno(errno, "bind");
    if (::listen(server_.get(), 1) != 0) return fail_errno(errno, "listen");
    return {};
  }

  UniqueFd ours_;
  UniqueFd theirs_;
  UniqueFd server_;
};

TEST_F(CheckpointByCriu, AnOpenConnectionLivesOnInAnotherNetworkNamespace) {
  Networks networks;
  const auto made = networks.open();
  ASSERT_TRUE(made.has_value()) << made.error().text();
  ASSERT_EQ(::symlink("busybox", in_root("/bin/nc").c_str()), 0);
  const auto write_with_network = [&] {
    auto spec = script_spec("");
    spec.process->args = {"/bin/nc", "10.9.0.1", std::to_string(Networks::kPort)};
    for (auto& entry : spec.linux->namespaces) {
      if (entry.type == spec::NamespaceType::kNetwork) entry.path = networks.path();
    }
    write_config(spec);
  };
  write_with_network();
  auto in = os::make_pipe();
  ASSERT_TRUE(in.has_value());
  ASSERT_EQ(with_streams({"run", "--detach", bundle_.name()}, {{in->read.get(), 0}}), 0) << log();
  const UniqueFd peer(::accept4(networks.server(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(peer.valid());
  ASSERT_TRUE(os::write_all(in->write.get(), "one\n").has_value());
  EXPECT_EQ(read_until(peer.get(), "one\n"), "one\n");

  const auto refused = checkpoint();
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("tcp-established"));
  EXPECT_EQ(status(), "running");
  ASSERT_TRUE(os::write_all(in->write.get(), "two\n").has_value());
  EXPECT_EQ(read_until(peer.get(), "two\n"), "two\n") << "a failed checkpoint leaves all as it was";

  const auto done = checkpoint({"--tcp-established"});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  // criu keeps the old network shut, so that nobody in it answers for the connection.
  const auto moved = networks.plug();
  ASSERT_TRUE(moved.has_value()) << moved.error().text();
  write_with_network();
  auto other = os::make_pipe();
  ASSERT_TRUE(other.has_value());
  ASSERT_EQ(with_streams({"restore", "--detach", "--tcp-established", "--image-path", images(), bundle_.name()},
                         {{other->read.get(), 0}}),
            0)
      << log();
  ASSERT_TRUE(os::write_all(other->write.get(), "three\n").has_value());
  EXPECT_EQ(read_until(peer.get(), "three\n"), "three\n");
}

}  // namespace
}  // namespace berth::oci
