// Pressure in the statistics: there under cgroup v2, absent under v1. tests/vm runs this in a guest with v2.
#include <gmock/gmock.h>

#include "fixture.h"
#include "os/cgroup.h"
#include "wait.h"

namespace berth::test {
namespace {

struct Plain {
  static TestHostOptions options() { return {.config = "[runtime]\nstats_period_s = 1\n"}; }
};

class PressureTest : public HostTest<Plain> {
 protected:
  // What the kernel counts is at least that two programs want one processor.
  static constexpr const char* kBusy = "while :; do :; done & while :; do :; done";
};

TEST_F(PressureTest, OfContainersAndPods) {
  auto config = host().pod_config("pressed");
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(pb::NODE);
  const auto pod = must(cri().run_pod(config));
  auto container = host().shell_config("main", kBusy);
  container.mutable_linux()->mutable_resources()->set_cpuset_cpus("0");
  const auto id = must(cri().run(pod, container, config));
  const bool v2 = must(os::find_cgroups("/sys/fs/cgroup")).v2;

  pb::ContainerStatsRequest of_container;
  of_container.set_container_id(id);
  pb::PodSandboxStatsRequest of_pod;
  of_pod.set_pod_sandbox_id(pod);
  pb::ContainerStats one;
  pb::LinuxPodSandboxStats all;
  constexpr std::uint64_t kEnough = 200'000'000;
  EXPECT_TRUE(wait_until(std::chrono::seconds(60),
                         [&] {
                           one = must(cri().call(&Runtime::ContainerStats, of_container)).stats();
                           all = must(cri().call(&Runtime::PodSandboxStats, of_pod)).stats().linux();
                           if (!v2) return one.has_cpu() && all.has_cpu();
                           return one.cpu().psi().some().total() > kEnough && all.cpu().psi().some().total() > kEnough;
                         }))
      << one.ShortDebugString() << all.ShortDebugString();
  EXPECT_EQ(one.cpu().has_psi(), v2);
  EXPECT_EQ(one.memory().has_psi(), v2);
  EXPECT_EQ(one.has_io(), v2);
  EXPECT_EQ(all.cpu().has_psi(), v2);
  EXPECT_EQ(all.memory().has_psi(), v2);
  EXPECT_EQ(all.has_io(), v2);
  const auto metrics = must(cri().call(&Runtime::ListPodSandboxMetrics, pb::ListPodSandboxMetricsRequest()));
  ASSERT_EQ(metrics.pod_metrics_size(), 1);
  int told = 0;
  for (const auto& metric : metrics.pod_metrics(0).metrics()) told += metric.name().starts_with("container_pressure_");
  EXPECT_EQ(told, v2 ? 6 : 0);
  if (!v2) return;
  EXPECT_TRUE(one.cpu().psi().has_full());
  EXPECT_TRUE(one.io().psi().has_some());
  EXPECT_GT(one.io().timestamp(), 0);
  for (const auto* psi : {&one.cpu().psi(), &one.memory().psi(), &one.io().psi(), &all.cpu().psi()}) {
    for (const auto* line : {&psi->some(), &psi->full()}) {
      EXPECT_GE(line->avg10(), 0);
      EXPECT_LE(line->avg10(), 100);
      EXPECT_LE(line->avg300(), 100);
    }
  }
  EXPECT_LE(one.cpu().psi().some().total(), static_cast<std::uint64_t>(one.cpu().timestamp()) -
                                                static_cast<std::uint64_t>(must(cri().status(id)).created_at()))
      << "no more than the time that has passed, in nanoseconds";
}

}  // namespace
}  // namespace berth::test
