#include "cri/stats_cache.h"

#include "gtest/gtest.h"

namespace berth::cri {
namespace {

::berth::shim::v1::ContainerStatsResponse sample(std::int64_t time_ms, std::uint64_t cpu_ms) {
  ::berth::shim::v1::ContainerStatsResponse response;
  response.set_timestamp_ns(time_ms * 1'000'000);
  response.set_cpu_usage_ns(cpu_ms * 1'000'000);
  response.set_memory_usage_bytes(100);
  response.set_memory_working_set_bytes(80);
  response.set_memory_limit_bytes(100);
  response.set_memory_rss_bytes(60);
  response.set_memory_page_faults(9);
  response.set_memory_major_page_faults(4);
  response.set_swap_usage_bytes(30);
  return response;
}

TEST(StatsCache, RatesComeFromSamplesFarEnoughApart) {
  StatsCache cache;
  ContainerRecord record;
  record.id = "c";
  record.phase = ContainerPhase::kRunning;
  EXPECT_FALSE(cache.sampled("c"));
  EXPECT_FALSE(cache.get(record, "/root").has_cpu());
  cache.put("c", sample(1000, 10));
  EXPECT_TRUE(cache.sampled("c"));
  EXPECT_FALSE(cache.get(record, "/root").cpu().has_usage_nano_cores()) << "one sample is no rate";
  cache.put("c", sample(1001, 11));
  EXPECT_FALSE(cache.get(record, "/root").cpu().has_usage_nano_cores()) << "too close";
  EXPECT_EQ(cache.get(record, "/root").cpu().usage_core_nano_seconds().value(), 11'000'000U);
  cache.put("c", sample(2000, 510));
  const auto stats = cache.get(record, "/root");
  EXPECT_EQ(stats.cpu().usage_nano_cores().value(), 500'000'000U);
  EXPECT_EQ(stats.attributes().id(), "c");
  EXPECT_EQ(stats.cpu().timestamp(), 2'000'000'000);
  EXPECT_EQ(stats.memory().timestamp(), 2'000'000'000);
  EXPECT_EQ(stats.memory().usage_bytes().value(), 100U);
  EXPECT_EQ(stats.memory().working_set_bytes().value(), 80U);
  EXPECT_EQ(stats.memory().available_bytes().value(), 20U);
  EXPECT_EQ(stats.memory().rss_bytes().value(), 60U);
  EXPECT_EQ(stats.memory().page_faults().value(), 9U);
  EXPECT_EQ(stats.memory().major_page_faults().value(), 4U);
  EXPECT_EQ(stats.swap().timestamp(), 2'000'000'000);
  EXPECT_EQ(stats.swap().swap_usage_bytes().value(), 30U);
  cache.put("c", sample(1500, 1));
  EXPECT_EQ(cache.get(record, "/root").cpu().usage_core_nano_seconds().value(), 510'000'000U) << "a late answer";

  record.phase = ContainerPhase::kExited;
  EXPECT_FALSE(cache.get(record, "/root").has_cpu());
  cache.put_disk("c", {.timestamp_ns = 5, .mountpoint = "/m", .used_bytes = 7, .inodes_used = 2});
  const auto disk = cache.get(record, "/root").writable_layer();
  EXPECT_EQ(disk.timestamp(), 5);
  EXPECT_EQ(disk.used_bytes().value(), 7U);
  EXPECT_EQ(disk.inodes_used().value(), 2U);
  EXPECT_EQ(disk.fs_id().mountpoint(), "/m");
  EXPECT_EQ(cache.ids(), std::vector<std::string>{"c"});
  cache.erase("c");
  EXPECT_EQ(cache.disk_time("c"), 0);
  EXPECT_TRUE(cache.ids().empty());
  cache.put("c", sample(3000, 20));
  EXPECT_EQ(cache.ids(), std::vector<std::string>{"c"}) << "a late answer, which the next round takes away";
}

}  // namespace
}  // namespace berth::cri
