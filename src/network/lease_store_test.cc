#include "network/lease_store.h"

#include <gtest/gtest.h>

#include <set>

#include "base/ids.h"
#include "os/file.h"

namespace berth::network {
namespace {

class LeaseStoreTest : public testing::Test {
 protected:
  void TearDown() override { ASSERT_TRUE(os::remove_tree(dir_)); }
  std::unique_ptr<LeaseStore> open(const char* subnet = "10.9.0.0/28") {
    auto store = LeaseStore::open(dir_, *os::parse_ipv4_subnet(subnet));
    EXPECT_TRUE(store) << store.error().text();
    return store ? std::move(*store) : nullptr;
  }
  static std::string address(const Result<Lease>& lease) {
    return lease ? os::format_ipv4(lease->address) : lease.error().text();
  }
  const std::string dir_ = testing::TempDir() + "berth-leases-" + random_hex(8);
};

PortMapping port(std::uint16_t host, const std::string& ip = "", const std::string& protocol = "tcp") {
  return {protocol, 80, host, ip};
}

TEST_F(LeaseStoreTest, AddressesGoRoundAndAreNotReusedAtOnce) {
  const auto store = open();
  EXPECT_EQ(os::format_ipv4(store->gateway()), "10.9.0.1");
  EXPECT_EQ(address(store->reserve("a", {})), "10.9.0.2");
  EXPECT_EQ(address(store->reserve("b", {})), "10.9.0.3");
  ASSERT_TRUE(store->release("a"));
  EXPECT_EQ(address(store->reserve("c", {})), "10.9.0.4");
  for (int i = 5; i < 15; ++i)
    EXPECT_EQ(address(store->reserve("n" + std::to_string(i), {})), "10.9.0." + std::to_string(i));
  EXPECT_EQ(address(store->reserve("again", {})), "10.9.0.2");
  const auto full = store->reserve("toomany", {});
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), Code::kExhausted);
  ASSERT_TRUE(store->release("n7"));
  EXPECT_EQ(address(store->reserve("gap", {})), "10.9.0.7");
}

TEST_F(LeaseStoreTest, SurvivesARestartWithItsPointer) {
  {
    const auto store = open();
    ASSERT_TRUE(store->reserve("a", {port(8080), port(53, "127.0.0.1", "udp")}));
    ASSERT_TRUE(store->reserve("b", {}));
    ASSERT_TRUE(store->release("b"));
  }
  const auto store = open();
  const auto lease = store->find("a");
  ASSERT_TRUE(lease);
  EXPECT_EQ(os::format_ipv4(lease->address), "10.9.0.2");
  ASSERT_EQ(lease->ports.size(), 2U);
  EXPECT_EQ(lease->ports[1].host_ip, "127.0.0.1");
  EXPECT_EQ(lease->ports[1].protocol, "udp");
  EXPECT_FALSE(store->find("b"));
  EXPECT_EQ(address(store->reserve("c", {})), "10.9.0.4");
  const auto twice = store->reserve("a", {});
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().code(), Code::kExists);
  ASSERT_TRUE(store->release("a"));
  ASSERT_TRUE(store->release("a"));
}

TEST_F(LeaseStoreTest, OneDaemonOnly) {
  const auto store = open();
  const auto second = LeaseStore::open(dir_, *os::parse_ipv4_subnet("10.9.0.0/28"));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kPrecondition);
}

TEST_F(LeaseStoreTest, PortsCollideAsAddressesOverlap) {
  const auto store = open();
  ASSERT_TRUE(store->reserve("a", {port(80, "10.0.0.1"), port(90)}));
  EXPECT_TRUE(store->reserve("b", {port(80, "10.0.0.2")}));
  EXPECT_TRUE(store->reserve("c", {port(90, "", "udp")}));
  for (const auto& taken : {port(80), port(80, "10.0.0.1"), port(90, "10.0.0.9"), port(80, "0.0.0.0")}) {
    const auto refused = store->reserve("d", {taken});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Code::kExists);
    EXPECT_NE(refused.error().text().find("is held by sandbox "), std::string::npos);
  }
  ASSERT_TRUE(store->release("a"));
  ASSERT_TRUE(store->release("b"));
  EXPECT_TRUE(store->reserve("d", {port(80)}));
}

TEST_F(LeaseStoreTest, CutAndForeignFilesDoNoHarm) {
  {
    ASSERT_TRUE(open()->reserve("a", {}));
  }
  const std::string whole = format_lease({"z", {}, {port(1)}});
  ASSERT_TRUE(os::write_file_atomic(dir_ + "/10.9.0.5", ""));
  ASSERT_TRUE(os::write_file_atomic(dir_ + "/10.9.0.6", whole.substr(0, whole.size() - 3)));
  ASSERT_TRUE(os::write_file_atomic(dir_ + "/10.9.0.7", format_lease({"a", {}, {}})));
  ASSERT_TRUE(os::write_file_atomic(dir_ + "/notes.txt", "hello"));
  ASSERT_TRUE(os::write_file_atomic(dir_ + "/last_reserved", "garbage"));
  {
    const auto store = open();
    EXPECT_EQ(store->all().size(), 1U);
    EXPECT_FALSE(os::exists(dir_ + "/10.9.0.5"));
    EXPECT_FALSE(os::exists(dir_ + "/10.9.0.6"));
    EXPECT_TRUE(os::exists(dir_ + "/notes.txt"));
  }
  // A later Berth's lease must not be thrown away.
  ASSERT_TRUE(os::write_file_atomic(dir_ + "/10.9.0.8", "berth-lease 2\nsandbox q\nnew\nend\n"));
  const auto newer = LeaseStore::open(dir_, *os::parse_ipv4_subnet("10.9.0.0/28"));
  ASSERT_FALSE(newer);
  EXPECT_EQ(newer.error().code(), Code::kUnsupported);
  EXPECT_TRUE(os::exists(dir_ + "/10.9.0.8"));
}

TEST(LeaseText, RoundTripAndRefusals) {
  const Lease lease{"abc", {0x0a000002}, {port(80), port(81, "1.2.3.4", "sctp")}};
  const auto back = parse_lease(format_lease(lease), lease.address);
  ASSERT_TRUE(back);
  EXPECT_EQ(format_lease(*back), format_lease(lease));
  for (const char* bad : {"", "x", "berth-lease 1\n", "berth-lease 1\nsandbox ../x\nend\n",
                          "berth-lease 1\nsandbox a\nfoo\nend\n", "berth-lease 1\nsandbox a\nport tcp 1 2\nend\n",
                          "berth-lease 1\nsandbox a\nport tcp 70000 2 *\nend\n", "berth-lease 1\nsandbox a\nend"}) {
    EXPECT_FALSE(parse_lease(bad, {})) << bad;
  }
}

}  // namespace
}  // namespace berth::network
