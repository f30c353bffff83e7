// A pod's own limits are changed: what its cgroup then has, under cgroup v1 as under v2.
#include "base/strings.h"
#include "fixture.h"
#include "os/cgroup.h"
#include "os/file.h"

namespace berth::test {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

struct Plain {
  static TestHostOptions options() { return {}; }
};

class PodUpdateTest : public HostTest<Plain> {
 protected:
  // In the node's network, so that the guest of tests/vm needs no bridge.
  static pb::PodSandboxConfig pod_config(const std::string& name) {
    auto config = host().pod_config(name);
    config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(pb::NODE);
    return config;
  }
  static Running start(const std::string& name) {
    Running running{pod_config(name), "", ""};
    running.pod = must(cri().run_pod(running.config));
    running.container = must(cri().run(running.pod, host().shell_config("main", "exec sleep 1000"), running.config));
    return running;
  }
  // A file of the pod's own cgroup, by its controller and v1 name or by its v2 name.
  static std::string value(const std::string& parent, const std::string& controller, const std::string& v1,
                           const std::string& v2) {
    const auto layout = must(os::find_cgroups("/sys/fs/cgroup"));
    const auto* const hierarchy = layout.find(controller);
    if (hierarchy == nullptr) return "no hierarchy";
    const auto text = os::read_file_at(hierarchy->root.get(), parent.substr(1) + "/" + (layout.v2 ? v2 : v1), 4096);
    return text ? std::string(trim(*text)) : text.error().text();
  }
  static std::string memory(const pb::PodSandboxConfig& config) {
    return value(config.linux().cgroup_parent(), "memory", "memory.limit_in_bytes", "memory.max");
  }
  static std::string info(const std::string& pod) {
    pb::PodSandboxStatusRequest request;
    request.set_pod_sandbox_id(pod);
    request.set_verbose(true);
    return must(cri().call(&Runtime::PodSandboxStatus, request)).info().at("berth");
  }
  static auto update(const pb::UpdatePodSandboxResourcesRequest& request) {
    return cri().call(&Runtime::UpdatePodSandboxResources, request);
  }
  static bool v2() { return must(os::find_cgroups("/sys/fs/cgroup")).v2; }
};

TEST_F(PodUpdateTest, ResourcesAndOverheadAreInThePodsCgroup) {
  const auto running = start("resized");
  pb::UpdatePodSandboxResourcesRequest request;
  request.set_pod_sandbox_id(running.pod);
  auto& resources = *request.mutable_resources();
  resources.set_memory_limit_in_bytes(64 * kMiB);
  resources.set_cpu_quota(50'000);
  resources.set_cpu_period(100'000);
  resources.set_cpu_shares(1000);
  resources.set_oom_score_adj(7);
  resources.add_hugepage_limits()->set_page_size("2MB");  // of 0, as every kubelet sends
  request.mutable_overhead()->set_memory_limit_in_bytes(16 * kMiB);
  request.mutable_overhead()->set_cpu_shares(24);
  const auto& parent = running.config.linux().cgroup_parent();
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(ok(update(request)));
    EXPECT_EQ(memory(running.config), std::to_string(80 * kMiB));
    EXPECT_EQ(value(parent, "cpu", "cpu.shares", "cpu.weight"), v2() ? "39" : "1024");
    EXPECT_EQ(value(parent, "cpu", "cpu.cfs_quota_us", "cpu.max"), v2() ? "50000 100000" : "50000");
  }
  // The container's own cgroup below it is as it was.
  EXPECT_EQ(value(parent + "/" + running.container, "cpu", "cpu.cfs_quota_us", "cpu.max"), v2() ? "max 100000" : "-1");
  EXPECT_NE(info(running.pod)
                .find(R"("resources":{"cpuPeriod":100000,"cpuQuota":50000,"cpuShares":1000,)"
                      R"("memoryLimitInBytes":67108864,"hugepageLimits":{"2MB":0}})"),
            std::string::npos)
      << info(running.pod);

  // It is remembered: the overhead that a second update leaves out, and both over a restart of the daemon.
  ASSERT_TRUE(ok(host().stop_daemon()));
  ASSERT_TRUE(ok(host().start_daemon()));
  EXPECT_EQ(memory(running.config), std::to_string(80 * kMiB));
  EXPECT_NE(info(running.pod).find(R"("overhead":{"cpuShares":24,"memoryLimitInBytes":16777216})"), std::string::npos);
  pb::UpdatePodSandboxResourcesRequest next;
  next.set_pod_sandbox_id(running.pod);
  next.mutable_resources()->set_memory_limit_in_bytes(100 * kMiB);
  EXPECT_TRUE(ok(update(next)));
  EXPECT_EQ(memory(running.config), std::to_string(116 * kMiB));
  EXPECT_EQ(value(parent, "cpu", "cpu.shares", "cpu.weight"), v2() ? "39" : "1024") << "not asked for, not changed";
  next.mutable_resources()->set_memory_limit_in_bytes(-1);
  next.mutable_resources()->set_cpu_quota(-1);
  EXPECT_TRUE(ok(update(next)));
  EXPECT_EQ(value(parent, "cpu", "cpu.cfs_quota_us", "cpu.max"), v2() ? "max 100000" : "-1");
  EXPECT_TRUE(ok(cri().shell(running.container, "true")));
}

TEST_F(PodUpdateTest, APodWithoutContainersHasItsLimitsBeforeTheFirst) {
  const auto config = pod_config("early");
  const auto pod = must(cri().run_pod(config));
  pb::UpdatePodSandboxResourcesRequest request;
  request.set_pod_sandbox_id(pod);
  request.mutable_resources()->set_memory_limit_in_bytes(64 * kMiB);
  ASSERT_TRUE(ok(update(request)));
  EXPECT_EQ(memory(config), std::to_string(64 * kMiB));
  const auto id = must(cri().run(pod, host().shell_config("main", "exec sleep 1000"), config));
  EXPECT_TRUE(ok(cri().shell(id, "true")));
  EXPECT_EQ(memory(config), std::to_string(64 * kMiB));
  ASSERT_TRUE(ok(cri().end_pod(pod)));
  EXPECT_NE(memory(config), std::to_string(64 * kMiB)) << "its cgroup goes with the pod";
}

TEST_F(PodUpdateTest, WhatCannotBeIsRefused) {
  pb::UpdatePodSandboxResourcesRequest request;
  EXPECT_TRUE(fails(update(request), Code::kInvalid));
  request.set_pod_sandbox_id(std::string(64, 'c'));
  EXPECT_TRUE(fails(update(request), Code::kNotFound));
  const auto running = start("refused");
  request.set_pod_sandbox_id(running.pod);
  EXPECT_TRUE(ok(update(request))) << "asks for nothing";
  request.mutable_resources()->set_cpu_shares(-1);
  EXPECT_TRUE(fails(update(request), Code::kInvalid, "cpu_shares"));
  request.mutable_resources()->set_cpu_shares(0);
  (*request.mutable_resources()->mutable_unified())["cgroup.kill"] = "1";
  EXPECT_TRUE(fails(update(request), Code::kInvalid, "cgroup.kill"));
  request.mutable_resources()->clear_unified();
  request.mutable_resources()->set_cpuset_cpus("4000");
  EXPECT_FALSE(update(request)) << "no such processor";
  request.mutable_resources()->clear_cpuset_cpus();
  request.mutable_resources()->set_memory_limit_in_bytes(64 * kMiB);
  const std::string before = info(running.pod);
  EXPECT_NE(before.find(R"("resources":{})"), std::string::npos) << "what was refused is not remembered";
  ASSERT_TRUE(ok(cri().stop_pod(running.pod)));
  EXPECT_TRUE(fails(update(request), Code::kPrecondition, "stopped"));
  ASSERT_TRUE(ok(cri().remove_pod(running.pod)));
  EXPECT_TRUE(fails(update(request), Code::kNotFound));
}

TEST_F(PodUpdateTest, ACgroupThatOtherPodsAreInIsLeftAlone) {
  auto one = pod_config("one");
  auto two = pod_config("two");
  const std::string shared = host().cgroup_parent() + "/shared";
  one.mutable_linux()->set_cgroup_parent(shared);
  two.mutable_linux()->set_cgroup_parent(shared + "/below");
  const auto pod = must(cri().run_pod(one));
  const auto other = must(cri().run_pod(two));
  pb::UpdatePodSandboxResourcesRequest request;
  request.set_pod_sandbox_id(pod);
  request.mutable_resources()->set_memory_limit_in_bytes(64 * kMiB);
  EXPECT_TRUE(fails(update(request), Code::kPrecondition, other.substr(0, 13)));
  ASSERT_TRUE(ok(cri().end_pod(other)));
  EXPECT_TRUE(ok(update(request)));
}

}  // namespace
}  // namespace berth::test
