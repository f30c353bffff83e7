#include "cri/pod_resources.h"

#include <functional>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::cri {
namespace {

using Resources = pb::LinuxContainerResources;
constexpr std::int64_t kMiB = 1 << 20;

HostFacts v1() {
  HostFacts facts;
  facts.swap_accounting = true;
  return facts;
}
HostFacts v2() {
  HostFacts facts;
  facts.cgroup_v2 = true;
  facts.swap_accounting = true;
  facts.hugetlb = true;
  return facts;
}

PodResources both(const std::function<void(PodResources&)>& fill) {
  PodResources out;
  fill(out);
  return out;
}

/// "file=value ..." of a plan for what is recorded and asked for at once, or the error's code.
std::string plan(const PodResources& asked, const HostFacts& host) {
  const auto made = plan_pod_cgroup(asked, asked, host);
  if (!made) return std::string(code_name(made.error().code()));
  std::string text;
  for (const auto& write : *made) {
    text.append(text.empty() ? "" : " ").append(write.controller).append("/").append(write.file).append("=");
    text.append(write.value).append(write.optional ? "?" : "");
  }
  return text;
}

TEST(PodResources, TheCgroupGetsTheSum) {
  const auto asked = both([](PodResources& pod) {
    pod.resources.set_memory_limit_in_bytes(64 * kMiB);
    pod.resources.set_cpu_quota(50'000);
    pod.resources.set_cpu_period(100'000);
    pod.resources.set_cpu_shares(512);
    pod.resources.set_cpuset_cpus("0-1");
    pod.overhead.set_memory_limit_in_bytes(16 * kMiB);
    pod.overhead.set_cpu_quota(1'000);  // a tenth of a core, in the other's period ten times as much
    pod.overhead.set_cpu_period(10'000);
    pod.overhead.set_cpu_shares(512);
    pod.overhead.set_cpuset_cpus("2");
  });
  EXPECT_EQ(plan(asked, v1()),
            "memory/memory.limit_in_bytes=83886080 cpu/cpu.shares=1024 cpu/cpu.cfs_period_us=100000 "
            "cpu/cpu.cfs_quota_us=60000 cpuset/cpuset.cpus=0-1,2");
  EXPECT_EQ(plan(asked, v2()),
            "memory/memory.max=83886080 cpu/cpu.weight=39 cpu/cpu.max=60000 100000 cpuset/cpuset.cpus=0-1,2");
}

TEST(PodResources, WhatIsNotAskedForIsNotTouched) {
  PodResources whole;
  whole.resources.set_memory_limit_in_bytes(64 * kMiB);
  whole.resources.set_cpu_shares(512);
  whole.overhead.set_memory_limit_in_bytes(kMiB);
  PodResources asked;
  EXPECT_TRUE(plan_pod_cgroup(whole, asked, v1())->empty());
  asked.overhead.set_memory_limit_in_bytes(kMiB);
  const auto made = plan_pod_cgroup(whole, asked, v1());
  ASSERT_TRUE(made.has_value());
  ASSERT_EQ(made->size(), 1U);
  EXPECT_EQ(made->front().value, std::to_string(65 * kMiB));
  // Overhead alone makes no limit where the containers have none.
  whole.resources.clear_memory_limit_in_bytes();
  EXPECT_TRUE(plan_pod_cgroup(whole, asked, v1())->empty());
}

TEST(PodResources, LimitsAreLifted) {
  const auto asked = both([](PodResources& pod) {
    pod.resources.set_memory_limit_in_bytes(-1);
    pod.resources.set_memory_swap_limit_in_bytes(-1);
    pod.resources.set_cpu_quota(-5);
    pod.overhead.set_memory_limit_in_bytes(kMiB);
    pod.overhead.set_cpu_quota(1'000);
  });
  EXPECT_EQ(plan(asked, v1()),
            "memory/memory.limit_in_bytes=-1? memory/memory.memsw.limit_in_bytes=-1? cpu/cpu.cfs_period_us=100000 "
            "cpu/cpu.cfs_quota_us=-1?");
  EXPECT_EQ(plan(asked, v2()), "memory/memory.max=max? memory/memory.swap.max=max? cpu/cpu.max=max 100000?");
}

TEST(PodResources, SwapCountsBothUnderV1AndAloneUnderV2) {
  auto asked = both([](PodResources& pod) {
    pod.resources.set_memory_limit_in_bytes(64 * kMiB);
    pod.resources.set_memory_swap_limit_in_bytes(96 * kMiB);
    pod.overhead.set_memory_limit_in_bytes(16 * kMiB);
  });
  EXPECT_EQ(plan(asked, v1()), "memory/memory.limit_in_bytes=83886080 memory/memory.memsw.limit_in_bytes=117440512");
  EXPECT_EQ(plan(asked, v2()), "memory/memory.max=83886080 memory/memory.swap.max=33554432");
  asked.resources.set_memory_swap_limit_in_bytes(32 * kMiB);
  EXPECT_EQ(plan(asked, v2()), "invalid");
  HostFacts without;
  EXPECT_EQ(plan(asked, without), "unsupported");
}

TEST(PodResources, HugePagesAndFiles) {
  auto asked = both([](PodResources& pod) {
    for (const auto& [size, limit] : {std::pair("2MB", 4U << 20U), std::pair("1GB", 0U)}) {
      pod.resources.add_hugepage_limits()->set_page_size(size);
      pod.resources.mutable_hugepage_limits()->rbegin()->set_limit(limit);
    }
    (*pod.resources.mutable_unified())["memory.high"] = "1";
    (*pod.overhead.mutable_unified())["io.weight"] = "50";
  });
  EXPECT_EQ(plan(asked, v2()),
            "hugetlb/hugetlb.1GB.max=0? hugetlb/hugetlb.2MB.max=4194304 io/io.weight=50 memory/memory.high=1");
  EXPECT_EQ(plan(asked, v1()), "unsupported") << "no controller for 2MB";
  asked.resources.mutable_hugepage_limits(0)->set_limit(0);
  asked.overhead.clear_unified();
  EXPECT_EQ(plan(asked, v1()), "unsupported") << "unified under v1";
  asked.resources.clear_unified();
  EXPECT_EQ(plan(asked, v1()), "") << "what every kubelet sends";
}

TEST(PodResources, WhatCannotBeIsRefused) {
  const std::vector<std::function<void(PodResources&)>> wrong = {
      [](PodResources& pod) { pod.resources.set_cpu_shares(-1); },
      [](PodResources& pod) { pod.resources.set_cpu_period(-1); },
      [](PodResources& pod) { pod.overhead.set_cpu_period(999); },
      [](PodResources& pod) { pod.overhead.set_memory_limit_in_bytes(-1); },
      [](PodResources& pod) { pod.resources.set_cpuset_cpus("0\n1"); },
      [](PodResources& pod) { pod.resources.set_cpuset_mems("../x"); },
      [](PodResources& pod) { (*pod.resources.mutable_unified())["cgroup.kill"] = "1"; },
      [](PodResources& pod) { (*pod.resources.mutable_unified())["../memory.max"] = "1"; },
      [](PodResources& pod) { pod.resources.add_hugepage_limits()->set_page_size("../2MB"); },
      [](PodResources& pod) {
        (*pod.resources.mutable_unified())["memory.high"] = "1";
        (*pod.overhead.mutable_unified())["memory.high"] = "2";
      },
      [](PodResources& pod) {
        pod.resources.set_cpu_quota(1'000);
        pod.overhead.set_cpu_quota(std::numeric_limits<std::int64_t>::max());
      },
  };
  for (std::size_t i = 0; i < wrong.size(); ++i) EXPECT_EQ(plan(both(wrong[i]), v2()), "invalid") << i;
}

TEST(PodResources, SumsDoNotOverflow) {
  const auto asked = both([](PodResources& pod) {
    pod.resources.set_memory_limit_in_bytes(std::numeric_limits<std::int64_t>::max());
    pod.overhead.set_memory_limit_in_bytes(std::numeric_limits<std::int64_t>::max());
  });
  EXPECT_EQ(plan(asked, v2()), "memory/memory.max=9223372036854775807");
}

TEST(PodResources, Json) {
  Resources resources;
  resources.set_cpu_shares(2);
  (*resources.mutable_unified())["memory.high"] = "1";
  spec::JsonWriter json;
  write_resources_json(json, resources);
  EXPECT_EQ(json.take(), R"({"cpuShares":2,"unified":{"memory.high":"1"}})");
}

}  // namespace
}  // namespace berth::cri
