#include "cri/spec_builder.h"
#include "gtest/gtest.h"

namespace berth::cri {
namespace {

TEST(SpecResources, LimitsAndWhatIsLeftOut) {
  HostFacts host;
  pb::LinuxContainerResources limits;
  EXPECT_EQ(*build_resources(limits, host), spec::Resources{});
  limits.set_cpu_shares(2);
  limits.set_cpu_quota(-1);
  limits.set_cpuset_cpus("0-1");
  limits.set_cpuset_mems("0");
  limits.set_memory_limit_in_bytes(1000);
  limits.add_hugepage_limits()->set_page_size("2MB");
  auto built = build_resources(limits, host);
  ASSERT_TRUE(built);
  EXPECT_EQ(built->cpu->shares, 2U);
  EXPECT_EQ(built->cpu->quota, -1);
  EXPECT_FALSE(built->cpu->period);
  EXPECT_EQ(built->cpu->cpus, "0-1");
  EXPECT_EQ(built->cpu->mems, "0");
  EXPECT_EQ(built->memory->limit, 1000);
  EXPECT_FALSE(built->memory->swap);
  EXPECT_TRUE(built->hugepage_limits.empty());
  host.swap_accounting = true;
  host.hugetlb = true;
  built = build_resources(limits, host);
  EXPECT_EQ(built->memory->swap, 1000) << "no swap without being asked for";
  ASSERT_EQ(built->hugepage_limits.size(), 1U);
  EXPECT_EQ(built->hugepage_limits[0].page_size, "2MB");
  EXPECT_EQ(built->hugepage_limits[0].limit, 0U);
  limits.set_cpu_period(50'000);
  limits.set_memory_swap_limit_in_bytes(1500);
  limits.mutable_hugepage_limits(0)->set_limit(2U << 20U);
  built = build_resources(limits, host);
  EXPECT_EQ(built->cpu->period, 50'000U);
  EXPECT_EQ(built->memory->limit, 1000);
  EXPECT_EQ(built->memory->swap, 1500);
  EXPECT_EQ(built->hugepage_limits[0].limit, 2U << 20U);
  (*limits.mutable_unified())["memory.high"] = "1";
  EXPECT_EQ(build_resources(limits, host).error().code(), Code::kUnsupported);
  host.cgroup_v2 = true;
  EXPECT_TRUE(build_resources(limits, host));
  (*limits.mutable_unified())["../x"] = "1";
  EXPECT_EQ(build_resources(limits, host).error().code(), Code::kInvalid);
}

}  // namespace
}  // namespace berth::cri
