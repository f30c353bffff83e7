#include "cri/pod_stats.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::cri {
namespace {

constexpr const char* kNetDev =
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
    "compressed\n"
    "    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0   "
    "       0\n"
    "  eth0:    1234      12    3    0    0     0          0         0     5678      34    5    0    0     0       0   "
    "       0\n"
    "net1:7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0\n"
    "torn: 1 2 3\n";

TEST(PodStats, InterfacesOfANamespace) {
  EXPECT_THAT(parse_net_dev(kNetDev),
              testing::ElementsAre(LinkCounters{"eth0", 1234, 3, 5678, 5}, LinkCounters{"net1", 7, 0, 8, 0}));
  EXPECT_TRUE(parse_net_dev("").empty());
}

TEST(PodStats, FiguresOfAPod) {
  PodStatsCache cache;
  SandboxRecord record;
  record.id = "p";
  record.config.mutable_metadata()->set_name("web");
  EXPECT_FALSE(cache.get(record).has_linux());
  EXPECT_EQ(cache.get(record).attributes().metadata().name(), "web");
  os::CgroupUsage usage{.timestamp_ns = 1'000'000'000, .cpu_usage_ns = 500};
  usage.memory_limit_bytes = 100;
  usage.memory_working_set_bytes = 30;
  usage.pids = 4;
  cache.put("p", usage, parse_net_dev(kNetDev));
  auto stats = cache.get(record).linux();
  EXPECT_EQ(stats.cpu().usage_core_nano_seconds().value(), 500U);
  EXPECT_FALSE(stats.cpu().has_usage_nano_cores()) << "one reading is no rate";
  EXPECT_EQ(stats.memory().available_bytes().value(), 70U);
  EXPECT_EQ(stats.process().process_count().value(), 4U);
  EXPECT_EQ(stats.process().timestamp(), usage.timestamp_ns);
  EXPECT_EQ(stats.network().timestamp(), usage.timestamp_ns);
  EXPECT_EQ(stats.network().default_interface().name(), "eth0");
  EXPECT_EQ(stats.network().default_interface().rx_bytes().value(), 1234U);
  EXPECT_EQ(stats.network().default_interface().rx_errors().value(), 3U);
  EXPECT_EQ(stats.network().default_interface().tx_bytes().value(), 5678U);
  EXPECT_EQ(stats.network().default_interface().tx_errors().value(), 5U);
  ASSERT_EQ(stats.network().interfaces_size(), 1);
  usage.timestamp_ns += 1'000'000'000;
  usage.cpu_usage_ns += 250'000'000;
  usage.memory_working_set_bytes = 130;
  cache.put("p", usage, {});
  stats = cache.get(record).linux();
  EXPECT_EQ(stats.cpu().usage_nano_cores().value(), 250'000'000U);
  EXPECT_EQ(stats.memory().available_bytes().value(), 0U);
  EXPECT_FALSE(stats.has_network());
  EXPECT_TRUE(cache.sampled("p"));
  EXPECT_THAT(cache.ids(), testing::ElementsAre("p"));
  cache.erase("p");
  EXPECT_FALSE(cache.sampled("p"));
}

}  // namespace
}  // namespace berth::cri
