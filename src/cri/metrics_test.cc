#include "cri/metrics.h"

#include <map>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::cri {
namespace {

/// "name{value of the last label}" to value.
std::map<std::string, std::uint64_t> values(const google::protobuf::RepeatedPtrField<pb::Metric>& metrics) {
  std::map<std::string, std::uint64_t> all;
  for (const auto& metric : metrics) {
    const auto& last = metric.label_values(metric.label_values_size() - 1);
    EXPECT_TRUE(all.emplace(metric.name() + "{" + last + "}", metric.value().value()).second) << metric.name();
  }
  return all;
}

TEST(Metrics, FiguresUnderCadvisorsNames) {
  SandboxRecord sandbox;
  sandbox.id = "p1";
  sandbox.cgroup_parent = "/pods/p1";
  sandbox.config.mutable_metadata()->set_name("web");
  sandbox.config.mutable_metadata()->set_namespace_("shop");
  auto container = std::make_shared<ContainerRecord>();
  container->id = "c1";
  container->cgroups_path = "/pods/p1/c1";
  container->config.mutable_metadata()->set_name("main");
  container->started_at_ns = 7'900'000'000;
  container->log_path = "/log/0.log";
  pb::PodSandboxStats stats;
  auto& figures = *stats.mutable_linux();
  figures.mutable_cpu()->set_timestamp(1234);
  figures.mutable_cpu()->mutable_usage_core_nano_seconds()->set_value(3'700'000'000);
  figures.mutable_cpu()->mutable_psi()->mutable_some()->set_total(4'500'000'000);
  figures.mutable_network()->mutable_default_interface()->set_name("eth0");
  figures.mutable_network()->mutable_default_interface()->mutable_rx_bytes()->set_value(11);
  figures.mutable_network()->add_interfaces()->set_name("net1");
  for (const char* id : {"c1", "gone"}) {
    auto& one = *figures.add_containers();
    one.mutable_attributes()->set_id(id);
    one.mutable_memory()->mutable_major_page_faults()->set_value(5);
    one.mutable_io()->mutable_psi()->mutable_full()->set_total(6'000'000'000);
  }
  pb::PodSandboxMetrics metrics;
  ASSERT_TRUE(metrics.ParseFromString(
      pod_metrics({sandbox, stats, [&](const std::string& id) { return id == "c1" ? container : nullptr; },
                   [](const std::string&) { return 42U; }})));
  EXPECT_EQ(metrics.pod_sandbox_id(), "p1");
  EXPECT_EQ(metrics.metrics(0).name(), "container_cpu_usage_seconds_total");
  EXPECT_EQ(metrics.metrics(0).metric_type(), pb::COUNTER);
  EXPECT_EQ(metrics.metrics(0).timestamp(), 1234);
  auto pod = values(metrics.metrics());
  EXPECT_EQ(pod["container_cpu_usage_seconds_total{shop}"], 3U);
  EXPECT_EQ(pod["container_pressure_cpu_waiting_seconds_total{shop}"], 4U);
  EXPECT_EQ(pod["container_network_receive_bytes_total{eth0}"], 11U);
  EXPECT_TRUE(pod.contains("container_network_receive_bytes_total{net1}"));
  EXPECT_FALSE(pod.contains("container_memory_rss{shop}")) << "not known, not told";
  ASSERT_EQ(metrics.container_metrics_size(), 1);
  EXPECT_EQ(metrics.container_metrics(0).container_id(), "c1");
  auto one = values(metrics.container_metrics(0).metrics());
  EXPECT_EQ(one["container_memory_failures_total{pgmajfault}"], 5U);
  EXPECT_EQ(one["container_pressure_io_stalled_seconds_total{shop}"], 6U);
  EXPECT_FALSE(one.contains("container_pressure_memory_stalled_seconds_total{shop}"));
  EXPECT_EQ(one["container_start_time_seconds{shop}"], 7U);
  EXPECT_EQ(one["berth_container_log_dropped_bytes_total{shop}"], 42U);

  // Each metric has the labels that its descriptor names.
  std::map<std::string, int> keys;
  const auto descriptors = metric_descriptors();
  for (const auto& descriptor : descriptors.descriptors()) {
    EXPECT_FALSE(descriptor.help().empty());
    EXPECT_TRUE(keys.emplace(descriptor.name(), descriptor.label_keys_size()).second);
  }
  for (const auto& metric : metrics.metrics()) EXPECT_EQ(metric.label_values_size(), keys.at(metric.name()));
  for (const auto& metric : metrics.container_metrics(0).metrics()) {
    EXPECT_EQ(metric.label_values_size(), keys.at(metric.name()));
    EXPECT_THAT(std::vector<std::string>(metric.label_values().begin(), metric.label_values().begin() + 6),
                testing::ElementsAre("/pods/p1/c1", "c1", "", "main", "web", "shop"));
  }
}

}  // namespace
}  // namespace berth::cri
