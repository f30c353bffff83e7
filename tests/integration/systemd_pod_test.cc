// The cgroups of pods by systemd, through the CRI socket: tests/vm/run_guest --systemd brings a machine that has one.
#include <gmock/gmock.h>

#include <csignal>

#include "base/strings.h"
#include "fixture.h"
#include "os/cgroup.h"
#include "os/file.h"
#include "wait.h"

namespace berth::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::int64_t kMiB = 1 << 20;
// systemd tidies up behind our back, and slowly under emulation.
constexpr std::chrono::seconds kTidy{30};

bool have_systemd() {
  return os::exists("/run/systemd/private");
}

struct Systemd {
  static TestHostOptions options() {
    return {.config =
                "[handlers.berth]\nengine = \"process\"\n"
                "[handlers.runc]\nengine = \"external\"\nbinary = \"/usr/sbin/runc\"\n"
                "[handlers.crun]\nengine = \"external\"\nbinary = \"/usr/bin/crun\"\n"
                "[handlers.runc-shim]\nshim = \"/usr/bin/containerd-shim-runc-v2\"\n"
                "[handlers.other]\nshim = \"/bin/true\"\n",
            .systemd = true};
  }
};

std::string run(std::vector<std::string> words) {
  const auto ran = run_program(std::move(words));
  return ran ? std::string(trim(ran->out)) + (ran->code == 0 ? "" : ran->err) : ran.error().text();
}
std::string show(const std::string& unit, const std::string& property) {
  return run({"systemctl", "show", "-P", property, unit});
}
std::string units(const std::string& pattern) {
  return run({"systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", pattern});
}
bool v2() {
  return must(os::find_cgroups("/sys/fs/cgroup")).v2;
}
// A file of a cgroup, by its controller and v1 name or by its v2 name.
std::string value(const std::string& path, const std::string& controller, const std::string& v1,
                  const std::string& v2_name) {
  const auto layout = must(os::find_cgroups("/sys/fs/cgroup"));
  const auto* const hierarchy = layout.find(controller);
  if (hierarchy == nullptr) return "no hierarchy";
  const auto text = os::read_file_at(hierarchy->root.get(), path.substr(1) + "/" + (layout.v2 ? v2_name : v1), 4096);
  return text ? std::string(trim(*text)) : text.error().text();
}
std::string memory(const std::string& path) {
  return value(path, "memory", "memory.limit_in_bytes", "memory.max");
}
std::string quota(const std::string& path) {
  return value(path, "cpu", "cpu.cfs_quota_us", "cpu.max");
}
std::string members(const std::string& path) {
  return value(path, "name=systemd", "cgroup.procs", "cgroup.procs");
}
std::string scope(const std::string& id) {
  return "berth-" + id + ".scope";
}

class SystemdPodTest : public HostTest<Systemd> {
 public:
  static void SetUpTestSuite() {
    if (have_systemd()) HostTest::SetUpTestSuite();
  }

 protected:
  void SetUp() override {
    if (!have_systemd()) GTEST_SKIP() << "no systemd runs here";
    HostTest::SetUp();
  }
  void TearDown() override {
    if (!have_systemd()) return;
    if (host().daemon_alive()) {
      EXPECT_TRUE(ok(cri().end_all()));
    }
    EXPECT_TRUE(wait_until(kTidy, [] { return units("berth-*.scope").empty(); })) << units("berth-*.scope");
    HostTest::TearDown();
  }
  // In the node's network: the guest has no bridge. Its slice is made beforehand, as a kubelet does it.
  static pb::PodSandboxConfig pod_config(const std::string& name) {
    auto config = host().pod_config(name);
    config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(pb::NODE);
    EXPECT_EQ(run({"systemctl", "start", config.linux().cgroup_parent()}), "");
    return config;
  }
  static std::string path_of(const pb::PodSandboxConfig& config) {
    return host().cgroup_parent() + "/" + config.linux().cgroup_parent();
  }
  static pb::ContainerConfig sleeper(const std::string& name, std::int64_t memory_bytes) {
    auto config = host().shell_config(name, "exec sleep 1000");
    auto& limits = *config.mutable_linux()->mutable_resources();
    limits.set_memory_limit_in_bytes(memory_bytes);
    limits.set_cpu_quota(25'000);
    limits.set_cpu_period(50'000);
    limits.set_cpu_shares(512);
    return config;
  }
  static std::string info(const std::string& container) {
    pb::ContainerStatusRequest request;
    request.set_container_id(container);
    request.set_verbose(true);
    return must(cri().call(&Runtime::ContainerStatus, request)).info().at("berth");
  }
  static void reload() { EXPECT_EQ(run({"systemctl", "daemon-reload"}), ""); }
  static bool gone(const std::string& unit) {
    return wait_until(kTidy, [&unit] { return units(unit).empty(); });
  }
  static void expect_memory(const std::string& path, const std::string& unit, std::int64_t bytes) {
    EXPECT_EQ(memory(path), std::to_string(bytes)) << path;
    EXPECT_EQ(show(unit, v2() ? "MemoryMax" : "MemoryLimit"), std::to_string(bytes)) << unit;
  }
};

TEST_F(SystemdPodTest, TheKubeletIsToldOfTheDriver) {
  EXPECT_EQ(must(cri().call(&Runtime::RuntimeConfig, pb::RuntimeConfigRequest())).linux().cgroup_driver(), pb::SYSTEMD);
  const auto doctor = must(run_program({TestHost::program("berth"), "--address", host().socket(), "doctor"}));
  EXPECT_THAT(doctor.out, HasSubstr("systemd, by " + TestHost::program("berth-scope")));
}

TEST_F(SystemdPodTest, ContainersAreScopesInThePodsSlice) {
  const auto config = pod_config("two");
  const std::string slice = path_of(config);
  const auto pod = must(cri().run_pod(config));
  const auto first = must(cri().run(pod, sleeper("first", 64 * kMiB), config));
  const auto second = must(cri().run(pod, sleeper("second", 32 * kMiB), config));
  for (const auto& [id, bytes] : {std::pair(first, 64 * kMiB), std::pair(second, 32 * kMiB)}) {
    const std::string path = slice + "/" + scope(id);
    EXPECT_EQ(show(scope(id), "ControlGroup"), path);
    EXPECT_EQ(show(scope(id), "Slice"), config.linux().cgroup_parent());
    EXPECT_EQ(show(scope(id), "Delegate"), "yes");
    expect_memory(path, scope(id), bytes);
    EXPECT_EQ(show(scope(id), "CPUQuotaPerSecUSec"), "500ms");
    EXPECT_EQ(quota(path), v2() ? "25000 50000" : "25000");
    EXPECT_EQ(value(path, "cpu", "cpu.shares", "cpu.weight"), v2() ? "20" : "512");
    EXPECT_THAT(info(id), HasSubstr(R"("cgroupsPath":")" + path));
  }
  // The shim has a scope of its own there, and the daemon nothing.
  EXPECT_EQ(show(scope(pod), "ControlGroup"), slice + "/" + scope(pod));
  EXPECT_NE(members(slice + "/" + scope(pod)), "");
  EXPECT_EQ(members(slice), "");

  reload();
  expect_memory(slice + "/" + scope(first), scope(first), 64 * kMiB);
  EXPECT_EQ(quota(slice + "/" + scope(first)), v2() ? "25000 50000" : "25000");

  EXPECT_EQ(must(cri().shell(first, "echo inside")), "inside\n");
  pb::ContainerStatsRequest stats;
  stats.set_container_id(first);
  EXPECT_TRUE(wait_until(kTidy, [&] {
    return must(cri().call(&Runtime::ContainerStats, stats)).stats().memory().usage_bytes().value() > 0;
  }));
  pb::PodSandboxStatsRequest pod_stats;
  pod_stats.set_pod_sandbox_id(pod);
  EXPECT_GE(must(cri().call(&Runtime::PodSandboxStats, pod_stats)).stats().linux().process().process_count().value(),
            3U);

  ASSERT_TRUE(ok(cri().stop(first, 0)));
  EXPECT_TRUE(gone(scope(first)));
  EXPECT_EQ(show(scope(second), "ActiveState"), "active");
  ASSERT_TRUE(ok(cri().remove(first)));
  ASSERT_TRUE(ok(cri().end_pod(pod)));
  EXPECT_TRUE(gone("berth-*.scope"));
  // The slice is its maker's.
  EXPECT_EQ(show(config.linux().cgroup_parent(), "ActiveState"), "active");
}

TEST_F(SystemdPodTest, AnUpdateInPlaceOutlivesAReload) {
  const auto config = pod_config("resized");
  const std::string slice = path_of(config);
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, sleeper("main", 64 * kMiB), config));
  pb::UpdateContainerResourcesRequest request;
  request.set_container_id(id);
  request.mutable_linux()->set_memory_limit_in_bytes(48 * kMiB);
  request.mutable_linux()->set_cpu_quota(10'000);
  request.mutable_linux()->set_cpu_period(50'000);
  ASSERT_TRUE(ok(cri().call(&Runtime::UpdateContainerResources, request)));
  pb::UpdatePodSandboxResourcesRequest whole;
  whole.set_pod_sandbox_id(pod);
  whole.mutable_resources()->set_memory_limit_in_bytes(100 * kMiB);
  whole.mutable_resources()->set_cpu_quota(20'000);
  whole.mutable_resources()->set_cpu_period(50'000);
  whole.mutable_overhead()->set_memory_limit_in_bytes(20 * kMiB);
  ASSERT_TRUE(ok(cri().call(&Runtime::UpdatePodSandboxResources, whole)));
  for (int i = 0; i < 2; ++i) {
    expect_memory(slice + "/" + scope(id), scope(id), 48 * kMiB);
    EXPECT_EQ(quota(slice + "/" + scope(id)), v2() ? "10000 50000" : "10000");
    EXPECT_EQ(show(scope(id), "CPUQuotaPerSecUSec"), "200ms");
    expect_memory(slice, config.linux().cgroup_parent(), 120 * kMiB);
    EXPECT_EQ(quota(slice), v2() ? "20000 50000" : "20000");
    reload();
    // systemd writes all files of a controller anew when one of its properties changes.
    EXPECT_EQ(run({"systemctl", "set-property", "--runtime", scope(id),
                   v2() ? "MemoryHigh=41943040" : "MemoryAccounting=yes"}),
              "");
  }
}

TEST_F(SystemdPodTest, APodWithoutAParentHasASliceOfItsOwn) {
  auto config = pod_config("alone");
  config.mutable_linux()->clear_cgroup_parent();
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, sleeper("main", 64 * kMiB), config));
  const std::string own = host().slice(pod);
  EXPECT_EQ(show(scope(id), "ControlGroup"), host().cgroup_parent() + "/" + own + "/" + scope(id));
  ASSERT_TRUE(ok(cri().end_pod(pod)));
  EXPECT_TRUE(gone(own)) << units(own);
  EXPECT_EQ(memory(host().cgroup_parent() + "/" + own).find("No such file") != std::string::npos, true);
}

TEST_F(SystemdPodTest, OutOfMemoryIsSeenThoughTheScopeGoesAtOnce) {
  const auto config = pod_config("greedy");
  const auto pod = must(cri().run_pod(config));
  constexpr int kContainers = 6;
  for (int i = 0; i < kContainers; ++i) {
    auto greedy =
        host().shell_config("greedy" + std::to_string(i), "exec dd if=/dev/zero of=/dev/null bs=200M count=1");
    greedy.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(20 * kMiB);
    const auto id = must(cri().run(pod, greedy, config));
    const auto status = must(cri().wait_exited(id));
    if (v2()) {
      EXPECT_EQ(status.reason(), "OOMKilled") << i;
    }
    EXPECT_EQ(status.exit_code(), 137);
    // Another's end is not taken for it.
    const auto killed = must(cri().run(pod, host().shell_config("killed" + std::to_string(i), "exit 137"), config));
    EXPECT_EQ(must(cri().wait_exited(killed)).reason(), "Error") << i;
    ASSERT_TRUE(ok(cri().remove(id)));
  }
}

TEST_F(SystemdPodTest, WhatTheDriverDoesNotHaveIsRefused) {
  auto config = pod_config("refused");
  config.mutable_linux()->set_cgroup_parent("/kubepods/burstable/pod1");
  EXPECT_TRUE(fails(cri().run_pod(config), Code::kInvalid, "the kubelet's cgroupDriver must be the same"));
  config.mutable_linux()->set_cgroup_parent("a--b.slice");
  EXPECT_TRUE(fails(cri().run_pod(config), Code::kInvalid, "is no name of a slice"));
  config.mutable_linux()->clear_cgroup_parent();
  EXPECT_TRUE(fails(cri().run_pod(config, "other"), Code::kUnsupported, "/bin/true cannot be told"));
}

TEST_F(SystemdPodTest, RuntimesOfOtherMakersAreTold) {
  for (const std::string handler : {"runc", "crun", "runc-shim"}) {
    SCOPED_TRACE(handler);
    const auto config = pod_config("other-" + handler);
    const std::string slice = path_of(config);
    const auto pod = must(cri().run_pod(config, handler));
    const auto id = must(cri().run(pod, sleeper("main", 64 * kMiB), config));
    const std::string path = slice + "/" + scope(id);
    EXPECT_EQ(show(scope(id), "ControlGroup"), path);
    EXPECT_NE(members(path), "");
    expect_memory(path, scope(id), 64 * kMiB);
    EXPECT_EQ(must(cri().shell(id, "echo inside")), "inside\n");
    pb::UpdateContainerResourcesRequest request;
    request.set_container_id(id);
    request.mutable_linux()->set_memory_limit_in_bytes(48 * kMiB);
    EXPECT_TRUE(ok(cri().call(&Runtime::UpdateContainerResources, request)));
    reload();
    expect_memory(path, scope(id), 48 * kMiB);
    auto greedy = host().shell_config("greedy", "exec dd if=/dev/zero of=/dev/null bs=200M count=1");
    greedy.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(20 * kMiB);
    const auto killed = must(cri().wait_exited(must(cri().run(pod, greedy, config))));
    EXPECT_EQ(killed.exit_code(), 137);
    if (v2()) {
      EXPECT_EQ(killed.reason(), "OOMKilled");
    }
    ASSERT_TRUE(ok(cri().stop(id, 0)));
    EXPECT_TRUE(gone(scope(id)));
    const auto again = must(cri().run(pod, sleeper("again", 64 * kMiB), config));
    const auto shim = parse_number<pid_t>(split(members(slice + "/" + scope(pod)), '\n')[0]);
    ASSERT_TRUE(shim && ::kill(*shim, SIGKILL) == 0);
    EXPECT_EQ(must(cri().wait_exited(again)).exit_code(), 137);
    ASSERT_TRUE(ok(cri().end_pod(pod)));
    EXPECT_TRUE(gone("berth-*.scope")) << units("berth-*.scope");
  }
}

TEST_F(SystemdPodTest, TheDaemonAndTheShimMayDie) {
  const auto config = pod_config("steady");
  const std::string slice = path_of(config);
  const auto pod = must(cri().run_pod(config));
  const auto id = must(cri().run(pod, sleeper("main", 64 * kMiB), config));
  host().kill9_daemon();
  ASSERT_TRUE(ok(host().start_daemon()));
  EXPECT_EQ(must(cri().shell(id, "echo still")), "still\n");
  expect_memory(slice + "/" + scope(id), scope(id), 64 * kMiB);
  const auto shim = parse_number<pid_t>(split(members(slice + "/" + scope(pod)), '\n')[0]);
  ASSERT_TRUE(shim);
  ASSERT_EQ(::kill(*shim, SIGKILL), 0);
  EXPECT_EQ(must(cri().wait_exited(id)).exit_code(), 137);
  EXPECT_TRUE(gone("berth-*.scope")) << units("berth-*.scope");
  ASSERT_TRUE(ok(cri().end_pod(pod)));
}

TEST_F(SystemdPodTest, FsckFindsScopesAndSlicesThatNobodyOwns) {
  const auto config = pod_config("looked-at");
  const auto pod = must(cri().run_pod(config));
  const std::string lost(64, 'a');
  const std::string lost_pod(64, 'b');
  const auto transient = [](const std::string& slice, const std::string& unit) {
    const auto ran = run_program({"systemd-run", "--slice=" + slice, "--unit=" + unit, "--scope", "/bin/sh", "-c",
                                  "setsid -w sh -c 'sleep 1000 > /dev/null 2>&1 &'"});
    EXPECT_TRUE(ran && ran->code == 0) << (ran ? ran->err : ran.error().text());
  };
  const auto fsck = [](std::vector<std::string> more = {}) {
    std::vector<std::string> argv = {TestHost::program("berth"), "--address", host().socket(), "fsck"};
    argv.insert(argv.end(), more.begin(), more.end());
    return must(run_program(std::move(argv)));
  };
  EXPECT_EQ(fsck().out, "everything has an owner\n");
  transient(config.linux().cgroup_parent(), scope(lost));
  EXPECT_THAT(fsck().out, HasSubstr(path_of(config) + "/" + scope(lost)));
  EXPECT_THAT(fsck({"--repair"}).out, HasSubstr(scope(lost) + ": removed"));
  EXPECT_TRUE(gone(scope(lost)));
  transient(host().slice(lost_pod), scope(lost));
  EXPECT_THAT(fsck().out, HasSubstr(host().cgroup_parent() + "/" + host().slice(lost_pod)));
  EXPECT_THAT(fsck({"--repair"}).out, HasSubstr(host().slice(lost_pod) + ": removed"));
  EXPECT_TRUE(gone(scope(lost)));
  EXPECT_TRUE(gone(host().slice(lost_pod)));
  EXPECT_EQ(fsck().out, "everything has an owner\n");
  ASSERT_TRUE(ok(cri().end_pod(pod)));
}

}  // namespace
}  // namespace berth::test
