// The reference plugins, as Debian has them, run inside a node that is a network namespace of its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "base/ids.h"
#include "network/host_fixture_test.h"
#include "network/network.h"
#include "os/file.h"

namespace berth::network {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr const char* kPlugins = "/usr/lib/cni";

class CniReferenceTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    for (const char* name : {"bridge", "host-local", "portmap"}) {
      if (!os::exists(std::string(kPlugins) + "/" + name)) GTEST_SKIP() << "no " << name << " in " << kPlugins;
    }
    if (const auto why = host_.make(); !why.empty()) GTEST_SKIP() << why;
    ASSERT_TRUE(os::make_dirs(dir_ + "/net.d"));
    const std::string conf = R"({"cniVersion":")" + std::string(GetParam()) + R"(","name":"ref","plugins":[
      {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,
       "ipam":{"type":"host-local","dataDir":")" +
                             dir_ + R"(/leases","ranges":[[{"subnet":"10.77.0.0/24"}]],
               "routes":[{"dst":"0.0.0.0/0"}]}},
      {"type":"portmap","capabilities":{"portMappings":true},"snat":true}]})";
    ASSERT_TRUE(os::write_file_atomic(dir_ + "/net.d/10-ref.conflist", conf));
    open();
  }
  void TearDown() override { EXPECT_TRUE(os::remove_tree(dir_)); }
  void open() {
    network_.reset();
    NetworkOptions options;
    options.state_dir = dir_ + "/state";
    options.conf_dir = dir_ + "/net.d";
    options.bin_dirs = {kPlugins};
    host_.on_node([&] {
      auto opened = Network::open(options);
      ASSERT_TRUE(opened) << opened.error().text();
      network_ = std::move(*opened);
    });
  }

  TestHost host_;
  const std::string dir_ = testing::TempDir() + "berth-reference-" + random_hex(8);
  std::unique_ptr<Network> network_;
};

TEST_P(CniReferenceTest, BridgeHostLocalPortmap) {
  const auto a = host_.request("a", {{"tcp", 80, 8080, ""}});
  const auto b = host_.request("b");
  const auto start = std::chrono::steady_clock::now();
  host_.on_node([&] {
    const auto added = network_->add(a, {});
    ASSERT_TRUE(added) << added.error().text();
    EXPECT_EQ(added->ips.front(), "10.77.0.2");
    EXPECT_EQ(added->gateway, "10.77.0.1");
    EXPECT_EQ(added->network, "ref");
    EXPECT_EQ(added->mac.size(), 17U);
  });
  std::printf("reference plugins, %s: add %.1f ms\n", GetParam(),
              std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  host_.on_node([&] {
    const auto added = network_->add(b, {});
    ASSERT_TRUE(added) << added.error().text();
    EXPECT_EQ(added->ips.front(), "10.77.0.3");
  });
  const TestServer web(host_.pod("a"), "tcp", 80);
  EXPECT_EQ(web.talk(host_.pod("b"), "10.77.0.2", 80), "10.77.0.3");
  EXPECT_EQ(web.talk(host_.outside(), TestHost::kNodeAddress, 8080), TestHost::kOutsideAddress);
  const TestServer outside(host_.outside(), "tcp", 82);
  EXPECT_EQ(outside.talk(host_.pod("a"), TestHost::kOutsideAddress, 82), TestHost::kNodeAddress) << "masqueraded";
  open();  // a restart between ADD and DEL
  host_.kill_pod("b");
  host_.on_node([&] {
    for (const auto& request : {a, b}) {
      PodNetwork remembered;
      remembered.sandbox_id = request.sandbox_id;
      const auto removed = network_->remove(remembered);
      EXPECT_TRUE(removed) << removed.error().text();
    }
  });
  EXPECT_THAT(network_->holders(), IsEmpty());
  EXPECT_THAT(host_.rules(), Not(HasSubstr("8080")));
  EXPECT_FALSE(os::exists(dir_ + "/leases/ref/10.77.0.2"));
  EXPECT_FALSE(os::exists(dir_ + "/leases/ref/10.77.0.3"));
  EXPECT_EQ(TestHost::output_of(host_.node(), {"ip", "-o", "link", "show", "type", "veth"}).find("cni0"),
            std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Versions, CniReferenceTest, testing::Values("0.3.1", "0.4.0", "1.0.0"));

}  // namespace
}  // namespace berth::network
