#include "cri/stats_items.h"

#include <google/protobuf/util/message_differencer.h>

#include "gtest/gtest.h"

namespace berth::cri {
namespace {

using google::protobuf::util::MessageDifferencer;

ContainerPtr container(const std::string& id) {
  auto record = std::make_shared<ContainerRecord>();
  record->id = id;
  record->sandbox_id = "p";
  record->phase = ContainerPhase::kRunning;
  record->config.mutable_metadata()->set_name("main " + id);
  record->config.mutable_metadata()->set_attempt(2);
  for (const auto* key : {"one", "two", ""}) {
    (*record->config.mutable_labels())[key] = std::string("label ") + key;
    (*record->config.mutable_annotations())[key] = "";
  }
  return record;
}

/// The bytes are those of the message that the caches fill, for one item after another.
TEST(StatsWriter, BytesOfContainers) {
  StatsCache containers;
  PodStatsCache pods;
  ::berth::shim::v1::ContainerStatsResponse sample;
  sample.set_timestamp_ns(1'000'000'000);
  sample.set_cpu_usage_ns(7);
  sample.set_memory_limit_bytes(100);
  sample.mutable_cpu_pressure()->mutable_some()->set_avg10(1.5);
  containers.put("a", sample);
  containers.put_disk("b", {.timestamp_ns = 5, .mountpoint = "/m", .used_bytes = 7, .inodes_used = 2});
  StatsWriter writer(containers, pods, "/root");
  for (const auto* id : {"a", "b", "c", "a"}) {
    const auto record = container(id);
    std::string bytes;
    writer.append(bytes, *record);
    pb::ContainerStats told;
    ASSERT_TRUE(told.ParseFromString(bytes));
    EXPECT_TRUE(MessageDifferencer::Equals(told, containers.get(*record, "/root"))) << id << told.DebugString();
  }
}

TEST(StatsWriter, BytesOfPods) {
  StatsCache containers;
  PodStatsCache pods;
  os::CgroupUsage usage;
  usage.timestamp_ns = 1'000'000'000;
  usage.io_pressure = os::Pressure{};
  pods.put("p", usage, {{.name = "eth0", .rx_bytes = 1}, {.name = "net1", .tx_bytes = 2}});
  StatsWriter writer(containers, pods, "/root");
  for (const auto* id : {"p", "unknown", "p"}) {
    SandboxRecord record;
    record.id = id;
    record.config.mutable_metadata()->set_name("web");
    (*record.config.mutable_labels())["app"] = "web";
    for (const auto& running : {std::vector<ContainerPtr>{}, {container("a"), container("b")}}) {
      auto expected = pods.get(record);
      for (const auto& one : running) *expected.mutable_linux()->add_containers() = containers.get(*one, "/root");
      std::string bytes;
      writer.append(bytes, record, running);
      pb::PodSandboxStats told;
      ASSERT_TRUE(told.ParseFromString(bytes));
      EXPECT_TRUE(MessageDifferencer::Equals(told, expected)) << id << told.DebugString();
    }
  }
}

}  // namespace
}  // namespace berth::cri
