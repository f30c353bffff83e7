#include "os/link.h"

#include <gtest/gtest.h>
#include <linux/netlink.h>

#include <thread>

#include "os/link_reaper.h"
#include "os/netns.h"

namespace berth::os {
namespace {

// Everything runs inside a namespace that the test made; it goes with its descriptor.
class LinkTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = create_netns();
    if (!made) GTEST_SKIP() << "no network namespace: " << made.error().text();
    host_ = std::move(*made);
  }
  void inside(const std::function<void(NetlinkSocket&)>& work) {
    auto done = run_in_netns(host_.get(), [&work]() -> Result<> {
      BERTH_ASSIGN(auto socket, NetlinkSocket::open(NETLINK_ROUTE), "socket");
      work(socket);
      return {};
    });
    ASSERT_TRUE(done) << done.error().text();
  }
  UniqueFd host_;
};

TEST_F(LinkTest, MovesBetweenNamespaces) {
  auto other = create_netns();
  ASSERT_TRUE(other);
  inside([&](NetlinkSocket& route) {
    NetlinkBatch make;
    put_create_veth(make, {"mv-a", 0, "mv-b", host_.get(), {}, 0});
    ASSERT_TRUE(route.transact(make));
    const auto link = find_link(route, "mv-a");
    ASSERT_TRUE(link && *link);
    NetlinkBatch address;
    put_address(address, (*link)->index, Ipv4{0x0a010203}, 16);
    ASSERT_TRUE(route.transact(address));
    const auto addresses = list_addresses(route, (*link)->index);
    ASSERT_TRUE(addresses);
    ASSERT_EQ(addresses->size(), 1U);
    EXPECT_EQ(addresses->front().prefix, 16);
    EXPECT_EQ(addresses->front().local,
              (std::vector<std::byte>{std::byte{10}, std::byte{1}, std::byte{2}, std::byte{3}}));
    EXPECT_EQ(list_addresses(route, (*link)->index + 1)->size(), 0U);
    NetlinkBatch move;
    put_move_link(move, (*link)->index, "moved", other->get());
    ASSERT_TRUE(route.transact(move));
    EXPECT_FALSE(*find_link(route, "mv-a"));
    EXPECT_TRUE(run_in_netns(other->get(), [&]() -> Result<> {
      BERTH_ASSIGN(auto there, NetlinkSocket::open(NETLINK_ROUTE), "socket");
      BERTH_ASSIGN(const auto links, list_links(there), "list");
      EXPECT_EQ(links.size(), 2U) << "lo and the new one";
      BERTH_ASSIGN(const auto found, find_link(there, "moved"), "look");
      EXPECT_TRUE(found.has_value());
      NetlinkBatch set_up;
      put_same_address(set_up, found->index, addresses->front());
      put_link_up(set_up, found->index);
      BERTH_TRY(there.transact(set_up), "set up");
      EXPECT_TRUE((*find_link(there, "moved"))->up);
      EXPECT_EQ(list_addresses(there, found->index)->front().local, addresses->front().local);
      return {};
    }));
  });
}

TEST_F(LinkTest, BridgeIsMadeOnceAndDeleted) {
  inside([](NetlinkSocket& route) {
    const Mac mac{0x0a, 0x58, 1, 2, 3, 4};
    for (int i = 0; i < 2; ++i) {
      NetlinkBatch batch;
      put_create_bridge(batch, {"br-test", mac, 1400});
      put_no_ipv6_addresses(batch, "br-test");
      put_link_up(batch, "br-test");
      const auto made = route.transact(batch);
      ASSERT_TRUE(made) << made.error().text();
    }
    auto link = find_link(route, "br-test");
    ASSERT_TRUE(link);
    ASSERT_TRUE(*link);
    EXPECT_EQ((*link)->kind, "bridge");
    EXPECT_EQ((*link)->mac, mac);
    EXPECT_EQ((*link)->mtu, 1400U);
    EXPECT_TRUE((*link)->up);
    for (int i = 0; i < 2; ++i) {
      NetlinkBatch batch;
      put_delete_link(batch, "br-test");
      EXPECT_TRUE(route.transact(batch));
    }
    link = find_link(route, "br-test");
    ASSERT_TRUE(link);
    EXPECT_FALSE(*link);
  });
}

TEST_F(LinkTest, VethReachesIntoTheOtherNamespace) {
  auto pod = create_netns();
  ASSERT_TRUE(pod);
  inside([&pod](NetlinkSocket& route) {
    NetlinkBatch bridge;
    put_create_bridge(bridge, {"br-test", {}, 0});
    put_link_up(bridge, "br-test");
    ASSERT_TRUE(route.transact(bridge));
    auto master = find_link(route, "br-test");
    ASSERT_TRUE(master && *master);
    NetlinkBatch batch;
    put_create_veth(batch, {"veth0", (*master)->index, "eth0", pod->get(), {0x0a, 0x58, 10, 0, 0, 2}, 1300});
    put_port_options(batch, "veth0", true);
    put_link_up(batch, "veth0");
    auto made = route.transact(batch);
    ASSERT_TRUE(made) << made.error().text();
    auto port = find_link(route, "veth0");
    ASSERT_TRUE(port && *port);
    EXPECT_EQ((*port)->master, (*master)->index);
    EXPECT_EQ((*port)->kind, "veth");
    EXPECT_TRUE((*port)->up);
    // The first error in order is the one told, with its step.
    made = route.transact(batch);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code(), Code::kExists);
    EXPECT_NE(made.error().text().find("create veth veth0"), std::string::npos) << made.error().text();
  });
  auto seen = run_in_netns(pod->get(), []() -> Result<> {
    BERTH_ASSIGN(auto route, NetlinkSocket::open(NETLINK_ROUTE), "socket");
    BERTH_ASSIGN(const auto eth0, find_link(route, "eth0"), "find");
    if (!eth0 || eth0->mtu != 1300) return fail(Code::kInternal, "eth0 is not as ordered");
    NetlinkBatch batch;
    put_link_up(batch, "lo");
    put_no_ipv6_addresses(batch, "eth0");
    put_link_up(batch, "eth0");
    put_address(batch, eth0->index, {0x0a000002}, 24);
    put_default_route(batch, eth0->index, {0x0a000001});
    BERTH_TRY(route.transact(batch), "address");
    return route.transact(batch);  // and again: idempotent
  });
  EXPECT_TRUE(seen) << seen.error().text();
}

TEST_F(LinkTest, ReaperDeletesManyAtOnceAndAbsentOnes) {
  LinkReaper reaper;
  inside([&reaper](NetlinkSocket& route) {
    auto pod = create_netns();
    ASSERT_TRUE(pod);
    for (int i = 0; i < 8; ++i) {
      NetlinkBatch batch;
      put_create_veth(batch, {"v" + std::to_string(i), 0, "e" + std::to_string(i), pod->get(), {}, 0});
      ASSERT_TRUE(route.transact(batch));
    }
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < 12; ++i) {
        threads.emplace_back([&reaper, i] {
          const auto removed = reaper.remove("v" + std::to_string(i));
          EXPECT_TRUE(removed) << removed.error().text();
        });
      }
    }
    for (int i = 0; i < 12; ++i) {
      const auto link = find_link(route, "v" + std::to_string(i));
      ASSERT_TRUE(link);
      EXPECT_FALSE(*link);
    }
    EXPECT_TRUE(reaper.remove("v0"));
    EXPECT_FALSE(reaper.remove("lo")) << "the kernel refuses";
  });
}

}  // namespace
}  // namespace berth::os
