#include "network/builtin_network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "base/ids.h"
#include "network/host_fixture_test.h"
#include "os/file.h"

namespace berth::network {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class BuiltinNetworkTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto why = host_.make(); !why.empty()) GTEST_SKIP() << why;
    open();
  }
  void TearDown() override {
    if (network_) {
      host_.on_node([this] {
        for (const auto& id : network_->holders()) EXPECT_TRUE(network_->remove(host_.request(id)));
        const auto down = network_->teardown();
        EXPECT_TRUE(down) << down.error().text();
      });
      EXPECT_THAT(host_.links(), IsEmpty());
      EXPECT_EQ(host_.rules(), "");
    }
    network_.reset();
    EXPECT_TRUE(os::remove_tree(state_));
  }
  void open() {
    network_.reset();
    NetworkOptions options;
    options.state_dir = state_;
    options.conf_dir = state_ + "/no-such-folder";
    host_.on_node([&] {
      auto opened = Network::open(options);
      ASSERT_TRUE(opened) << opened.error().text();
      network_ = std::move(*opened);
    });
  }
  Result<Attachment> add(const std::string& name, std::vector<PortMapping> ports = {}) {
    Result<Attachment> out = fail(Code::kInternal, "not run");
    const auto request = host_.request(name, std::move(ports));
    host_.on_node([&] { out = network_->add(request, {}); });
    return out;
  }
  std::string ip(const std::string& name, std::vector<PortMapping> ports = {}) {
    const auto added = add(name, std::move(ports));
    return added ? added->ips.front() : added.error().text();
  }
  Result<> remove(const std::string& name) {
    PodNetwork request;
    request.sandbox_id = name;
    Result<> out;
    host_.on_node([&] { out = network_->remove(request); });
    return out;
  }
  std::vector<std::string> leases() const {
    auto names = os::list_dir(state_ + "/leases");
    std::vector<std::string> out;
    for (auto& name : *names) {
      if (name != "lock" && name != "last_reserved") out.push_back(name);
    }
    return out;
  }

  TestHost host_;
  const std::string state_ = testing::TempDir() + "berth-network-" + random_hex(8);
  std::unique_ptr<Network> network_;
};

constexpr PortMapping kNoPort{};

PortMapping publish(std::uint16_t host, std::uint16_t container, const std::string& ip = "",
                    const std::string& protocol = "tcp") {
  return {protocol, container, host, ip};
}

TEST_F(BuiltinNetworkTest, PodsNodeAndOutsideReachEachOther) {
  const auto a = add("a");
  ASSERT_TRUE(a) << a.error().text();
  EXPECT_THAT(a->ips, ElementsAre("10.88.0.2"));
  EXPECT_EQ(a->gateway, "10.88.0.1");
  EXPECT_EQ(a->mac, "0a:58:0a:58:00:02");
  EXPECT_EQ(a->network, "berth");
  EXPECT_EQ(ip("b"), "10.88.0.3");
  const TestServer in_b(host_.pod("b"), "tcp", 80);
  EXPECT_EQ(in_b.talk(host_.pod("a"), "10.88.0.3", 80), "10.88.0.2");
  EXPECT_EQ(in_b.talk(host_.node(), "10.88.0.3", 80), "10.88.0.1");
  EXPECT_EQ(in_b.talk(host_.pod("b"), "127.0.0.1", 80), "127.0.0.1") << "loopback is up";
  const TestServer on_node(host_.node(), "tcp", 81);
  EXPECT_EQ(on_node.talk(host_.pod("a"), "10.88.0.1", 81), "10.88.0.2");
  EXPECT_EQ(on_node.talk(host_.pod("a"), TestHost::kNodeAddress, 81), "10.88.0.2");
  const TestServer outside(host_.outside(), "tcp", 82);
  EXPECT_EQ(outside.talk(host_.pod("a"), TestHost::kOutsideAddress, 82), TestHost::kNodeAddress) << "masqueraded";
  const auto status = network_->status();
  EXPECT_TRUE(status.ready);
  EXPECT_TRUE(status.builtin);
}

TEST_F(BuiltinNetworkTest, HostPortsFromEverywhere) {
  ASSERT_EQ(ip("a", {publish(8080, 80), publish(5353, 53, "", "udp"), publish(9090, 80, "127.0.0.1"), kNoPort}),
            "10.88.0.2");
  ASSERT_EQ(ip("b"), "10.88.0.3");
  const std::string node = TestHost::kNodeAddress;
  const TestServer web(host_.pod("a"), "tcp", 80);
  EXPECT_EQ(web.talk(host_.outside(), node, 8080), TestHost::kOutsideAddress) << "the source is kept";
  EXPECT_EQ(web.talk(host_.node(), node, 8080), node);
  EXPECT_EQ(web.talk(host_.node(), "127.0.0.1", 8080), "10.88.0.1");
  EXPECT_EQ(web.talk(host_.node(), "127.0.0.1", 9090), "10.88.0.1");
  EXPECT_EQ(web.talk(host_.pod("b"), node, 8080), "10.88.0.1");
  EXPECT_EQ(web.talk(host_.pod("a"), node, 8080), "10.88.0.1") << "hairpin";
  EXPECT_EQ(web.talk(host_.pod("a"), "10.88.0.1", 8080), "10.88.0.1");
  EXPECT_THAT(web.talk(host_.outside(), node, 9090), HasSubstr("refused")) << "published on 127.0.0.1 only";
  const TestServer dns(host_.pod("a"), "udp", 53);
  EXPECT_EQ(dns.talk(host_.outside(), node, 5353), TestHost::kOutsideAddress);
  EXPECT_EQ(dns.talk(host_.node(), "127.0.0.1", 5353), "10.88.0.1");
  ASSERT_TRUE(remove("a"));
  EXPECT_THAT(web.talk(host_.outside(), node, 8080), HasSubstr("refused"));
  EXPECT_THAT(host_.rules(), Not(HasSubstr("10.88.0.2")));
}

TEST_F(BuiltinNetworkTest, PodsCannotReachTheNodesLoopback) {
  ASSERT_EQ(ip("a", {publish(8080, 80)}), "10.88.0.2");
  const TestServer secret(host_.node(), "tcp", 7777);
  EXPECT_EQ(secret.talk(host_.node(), "127.0.0.1", 7777), "127.0.0.1");
  TestHost::output_of(host_.pod("a"), {"sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"});
  TestHost::output_of(host_.pod("a"), {"ip", "addr", "flush", "dev", "lo"});
  TestHost::output_of(host_.pod("a"),
                      {"ip", "route", "replace", "127.0.0.1/32", "via", "10.88.0.1", "src", "10.88.0.2"});
  TestHost::output_of(host_.pod("a"), {"ip", "rule", "add", "pref", "0", "table", "main"});
  EXPECT_THAT(secret.talk(host_.pod("a"), "127.0.0.1", 7777, 500), HasSubstr("timeout"));
}

TEST_F(BuiltinNetworkTest, RemoveLeavesNothingAndIsIdempotent) {
  ASSERT_EQ(ip("a", {publish(8080, 80)}), "10.88.0.2");
  EXPECT_THAT(network_->holders(), ElementsAre("a"));
  EXPECT_THAT(host_.links(), testing::UnorderedElementsAre("berth0", host_link_name("a")));
  const auto busy = network_->teardown();
  ASSERT_FALSE(busy);
  EXPECT_EQ(busy.error().code(), Code::kPrecondition);
  EXPECT_TRUE(remove("a"));
  EXPECT_TRUE(remove("a"));
  EXPECT_TRUE(remove("never-seen"));
  EXPECT_THAT(host_.links(), ElementsAre("berth0"));
  EXPECT_THAT(leases(), IsEmpty());
  EXPECT_THAT(network_->holders(), IsEmpty());
}

TEST_F(BuiltinNetworkTest, RemoveWorksWhenTheNamespaceIsGone) {
  ASSERT_EQ(ip("a", {publish(8080, 80)}), "10.88.0.2");
  host_.kill_pod("a");
  EXPECT_TRUE(remove("a"));
  EXPECT_THAT(host_.links(), ElementsAre("berth0"));
  EXPECT_THAT(leases(), IsEmpty());
}

TEST_F(BuiltinNetworkTest, AddAgainGivesTheSame) {
  ASSERT_EQ(ip("a", {publish(8080, 80)}), "10.88.0.2");
  EXPECT_EQ(ip("a", {publish(8080, 80)}), "10.88.0.2");
  const TestServer web(host_.pod("a"), "tcp", 80);
  EXPECT_EQ(web.talk(host_.node(), "127.0.0.1", 8080), "10.88.0.1");
  host_.kill_pod("a");  // the retry comes with another namespace
  EXPECT_EQ(ip("a", {publish(8080, 80)}), "10.88.0.2");
  const TestServer again(host_.pod("a"), "tcp", 80);
  EXPECT_EQ(again.talk(host_.outside(), TestHost::kNodeAddress, 8080), TestHost::kOutsideAddress);
}

TEST_F(BuiltinNetworkTest, FailedAddIsUndone) {
  ASSERT_EQ(ip("a", {publish(8080, 80)}), "10.88.0.2");
  const auto taken = add("b", {publish(8081, 80), publish(8080, 80)});
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code(), Code::kExists);
  EXPECT_THAT(taken.error().text(), HasSubstr("held by sandbox a"));
  TestHost::output_of(host_.pod("c"), {"ip", "link", "add", "eth0", "type", "bridge"});
  const auto occupied = add("c", {publish(8082, 80)});
  ASSERT_FALSE(occupied);
  EXPECT_THAT(occupied.error().text(), HasSubstr("create veth"));
  for (const auto& bad : {publish(1, 2, "::1"), publish(1, 2, "nonsense"), publish(1, 0), publish(1, 2, "", "icmp")}) {
    EXPECT_FALSE(add("d", {bad}));
  }
  EXPECT_THAT(network_->holders(), ElementsAre("a"));
  EXPECT_THAT(leases(), ElementsAre("10.88.0.2"));
  EXPECT_EQ(host_.links().size(), 2U);
  EXPECT_THAT(host_.rules(), AllOf(Not(HasSubstr("8081")), Not(HasSubstr("8082"))));
  EXPECT_TRUE(network_->status().ready);
}

TEST_F(BuiltinNetworkTest, RestartKeepsPodsAndFinishesRemovals) {
  ASSERT_EQ(ip("a", {publish(8080, 80)}), "10.88.0.2");
  ASSERT_EQ(ip("b"), "10.88.0.3");
  open();
  EXPECT_THAT(network_->holders(), ElementsAre("a", "b"));
  EXPECT_TRUE(remove("b"));
  EXPECT_EQ(ip("c"), "10.88.0.4");
  const TestServer web(host_.pod("a"), "tcp", 80);
  EXPECT_EQ(web.talk(host_.outside(), TestHost::kNodeAddress, 8080), TestHost::kOutsideAddress);
  EXPECT_EQ(web.talk(host_.pod("c"), "10.88.0.2", 80), "10.88.0.4");
}

TEST_F(BuiltinNetworkTest, RepairsWhatOthersDeleted) {
  ASSERT_EQ(ip("a", {publish(8080, 80)}), "10.88.0.2");
  TestHost::output_of(host_.node(), {"nft", "flush", "ruleset"});
  ASSERT_EQ(ip("b", {publish(8081, 80)}), "10.88.0.3");
  const TestServer in_a(host_.pod("a"), "tcp", 80);
  EXPECT_EQ(in_a.talk(host_.outside(), TestHost::kNodeAddress, 8080), TestHost::kOutsideAddress);
  const TestServer in_b(host_.pod("b"), "tcp", 80);
  EXPECT_EQ(in_b.talk(host_.outside(), TestHost::kNodeAddress, 8081), TestHost::kOutsideAddress);
  TestHost::output_of(host_.node(), {"ip", "link", "del", "berth0"});
  ASSERT_EQ(ip("c"), "10.88.0.4");
  const TestServer in_c(host_.pod("c"), "tcp", 80);
  EXPECT_EQ(in_c.talk(host_.node(), "10.88.0.4", 80), "10.88.0.1");
}

TEST_F(BuiltinNetworkTest, ForeignLinkInTheBridgesPlaceIsSaid) {
  TestHost::output_of(host_.node(), {"ip", "link", "add", "berth0", "type", "veth", "peer", "name", "other"});
  const auto refused = add("a");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text(), HasSubstr("is no bridge"));
  EXPECT_FALSE(network_->status().ready);
  EXPECT_EQ(network_->status().reason, "BuiltinNetworkFailed");
  TestHost::output_of(host_.node(), {"ip", "link", "del", "berth0"});
  EXPECT_EQ(ip("a"), "10.88.0.3");
  EXPECT_TRUE(network_->status().ready);
}

TEST_F(BuiltinNetworkTest, ChurnOfAHundredWithFixedRules) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> add_us;
  std::vector<double> remove_us;
  ASSERT_TRUE(add("warm"));
  const auto rules_of_one = std::ranges::count(host_.rules(), '\n');
  host_.on_node([&] {
    for (int i = 0; i < 100; ++i) {
      const auto request = host_.request("p" + std::to_string(i));
      const auto start = Clock::now();
      ASSERT_TRUE(network_->add(request, {}));
      const auto added = Clock::now();
      if (i % 2 == 0) {
        ASSERT_TRUE(network_->remove(request));
        remove_us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - added).count());
      }
      add_us.push_back(std::chrono::duration<double, std::micro>(added - start).count());
    }
  });
  EXPECT_EQ(std::ranges::count(host_.rules(), '\n'), rules_of_one);
  EXPECT_EQ(leases().size(), 51U);
  std::ranges::sort(add_us);
  std::ranges::sort(remove_us);
  std::printf("built-in network: add median %.0f us, worst %.0f us; remove median %.0f us, worst %.0f us\n",
              add_us[add_us.size() / 2], add_us.back(), remove_us[remove_us.size() / 2], remove_us.back());
}

TEST_F(BuiltinNetworkTest, FiftyAtOnce) {
  std::vector<PodNetwork> requests;
  for (int i = 0; i < 50; ++i) {
    requests.push_back(host_.request("p" + std::to_string(i), {publish(static_cast<std::uint16_t>(9000 + i), 80)}));
  }
  host_.on_node([&] {
    std::vector<std::jthread> threads;
    for (const auto& request : requests) {
      threads.emplace_back([this, &request] { EXPECT_TRUE(network_->add(request, {})); });
    }
  });
  EXPECT_EQ(leases().size(), 50U);
  EXPECT_EQ(host_.links().size(), 51U);
  host_.on_node([&] {
    std::vector<std::jthread> threads;
    for (const auto& request : requests) {
      threads.emplace_back([this, &request] { EXPECT_TRUE(network_->remove(request)); });
    }
  });
  EXPECT_THAT(leases(), IsEmpty());
  EXPECT_THAT(host_.links(), ElementsAre("berth0"));
}

TEST(BuiltinNetworkOptions, NonsenseIsRefused) {
  NetworkOptions options;
  options.state_dir = testing::TempDir() + "berth-network-" + random_hex(8);
  for (const char* bridge : {"", "a/b", "waytoolongforaname", "lo", "all"}) {
    auto bad = options;
    bad.bridge = bridge;
    EXPECT_EQ(BuiltinNetwork::open(bad).error().code(), Code::kInvalid) << bridge;
  }
  for (const char* subnet : {"", "10.0.0.0", "10.0.0.0/31", "10.0.0.0/7", "fd00::/64"}) {
    auto bad = options;
    bad.subnet = subnet;
    EXPECT_EQ(BuiltinNetwork::open(bad).error().code(), Code::kInvalid) << subnet;
  }
  EXPECT_TRUE(os::remove_tree(options.state_dir));
}

TEST(HostLinkName, DependsOnTheIdAlone) {
  EXPECT_EQ(host_link_name("abc"), host_link_name("abc"));
  EXPECT_NE(host_link_name("abc"), host_link_name("abd"));
  EXPECT_EQ(host_link_name("abc").size(), 15U);
}

}  // namespace
}  // namespace berth::network
