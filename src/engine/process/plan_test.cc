#include <gmock/gmock.h>

#include "engine/process/cgroup_plan.h"
#include "engine/process/intel_rdt.h"
#include "engine/process/launch.h"
#include "engine/process/mount_plan.h"
#include "engine/process/scheduling.h"
#include "engine/process/sysctl.h"

namespace berth::engine::process {
namespace {

using ::testing::HasSubstr;

std::string text_of(const Result<CgroupPlan>& plan) {
  if (!plan) return "error: " + plan.error().text();
  std::string text;
  for (const auto& write : *plan) {
    text += write.controller + " " + write.file + "=" + write.value + (write.optional ? " optional" : "") + "\n";
  }
  return text;
}

spec::Resources everything() {
  return *spec::parse_resources(R"({
    "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw"}],
    "memory": {"limit": 1073741824, "swap": 2147483648, "reservation": 536870912, "swappiness": 10, "disableOOMKiller": true},
    "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "burst": 1000, "idle": 0, "cpus": "0-1", "mems": "0"},
    "pids": {"limit": 100},
    "blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 300}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 0}, {"pageSize": "1GB", "limit": 4096}],
    "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]},
    "rdma": {"mlx5_0": {"hcaHandles": 3, "hcaObjects": 10}}})");
}

TEST(CgroupPlan, V1) {
  EXPECT_EQ(text_of(plan_cgroup_v1(everything())),
            "cpu cpu.shares=1024\ncpu cpu.cfs_period_us=100000\ncpu cpu.cfs_quota_us=50000\ncpu cpu.cfs_burst_us=1000\n"
            "cpu cpu.idle=0 optional\ncpuset cpuset.cpus=0-1\ncpuset cpuset.mems=0\n"
            "memory memory.limit_in_bytes=1073741824\nmemory memory.memsw.limit_in_bytes=2147483648\n"
            "memory memory.soft_limit_in_bytes=536870912\nmemory memory.swappiness=10\nmemory memory.oom_control=1\n"
            "pids pids.max=100\nblkio blkio.weight=500\nblkio blkio.weight_device=8:0 300\n"
            "blkio blkio.throttle.read_bps_device=8:0 1000\n"
            "hugetlb hugetlb.2MB.limit_in_bytes=0 optional\nhugetlb hugetlb.1GB.limit_in_bytes=4096\n"
            "net_cls net_cls.classid=1048577\nnet_prio net_prio.ifpriomap=eth0 5\n"
            "rdma rdma.max=mlx5_0 hca_handle=3 hca_object=10\n"
            "devices devices.deny=a *:* rwm\ndevices devices.allow=c 10:200 rw\n"
            "devices devices.allow=c *:* m\ndevices devices.allow=b *:* m\ndevices devices.allow=c 1:3 rwm\n"
            "devices devices.allow=c 1:5 rwm\ndevices devices.allow=c 1:7 rwm\ndevices devices.allow=c 1:8 rwm\n"
            "devices devices.allow=c 1:9 rwm\ndevices devices.allow=c 5:0 rwm\ndevices devices.allow=c 5:2 rwm\n"
            "devices devices.allow=c 136:* rwm\n");
}

TEST(CgroupPlan, V2) {
  auto resources = everything();
  resources.unified = {{"memory.high", "1000000"}};
  EXPECT_EQ(text_of(plan_cgroup_v2(resources)),
            "cpu cpu.idle=0 optional\ncpu cpu.weight=39\ncpu cpu.max=50000 100000\ncpu cpu.max.burst=1000\n"
            "cpuset cpuset.cpus=0-1\ncpuset cpuset.mems=0\n"
            "memory memory.max=1073741824\nmemory memory.swap.max=1073741824\nmemory memory.low=536870912\n"
            "pids pids.max=100\nio io.weight=default 4950\nio io.bfq.weight=8:0 300\nio io.max=8:0 rbps=1000\n"
            "hugetlb hugetlb.2MB.max=0 optional\nhugetlb hugetlb.1GB.max=4096\n"
            "rdma rdma.max=mlx5_0 hca_handle=3 hca_object=10\nmemory memory.high=1000000\n");
}

TEST(CgroupPlan, NoLimitsAreOptional) {
  const auto resources = *spec::parse_resources(
      R"({"memory": {"limit": -1, "swap": -1}, "cpu": {"quota": -1, "shares": 0}, "pids": {"limit": -1}})");
  EXPECT_EQ(text_of(plan_cgroup_v1(resources)),
            "cpu cpu.cfs_quota_us=-1 optional\nmemory memory.limit_in_bytes=-1 optional\n"
            "memory memory.memsw.limit_in_bytes=-1 optional\npids pids.max=max optional\n");
  EXPECT_EQ(text_of(plan_cgroup_v2(resources)),
            "cpu cpu.max=max 100000 optional\nmemory memory.max=max optional\nmemory memory.swap.max=max optional\n"
            "pids pids.max=max optional\n");
}

TEST(CgroupPlan, FilesCannotBeNamedFreely) {
  auto resources = *spec::parse_resources(R"({"hugepageLimits": [{"pageSize": "../../2MB", "limit": 1}]})");
  EXPECT_THAT(text_of(plan_cgroup_v1(resources)), HasSubstr("page size"));
  EXPECT_THAT(text_of(plan_cgroup_v2(resources)), HasSubstr("page size"));
  resources = *spec::parse_resources(R"({"unified": {"memory.max/../../x": "1"}})");
  EXPECT_THAT(text_of(plan_cgroup_v2(resources)), HasSubstr("no control file"));
  EXPECT_THAT(text_of(plan_cgroup_v1(resources)), HasSubstr("needs cgroup v2"));
}

TEST(CgroupPlan, Weights) {
  EXPECT_EQ(cpu_weight_of_shares(0), 0U);
  EXPECT_EQ(cpu_weight_of_shares(2), 1U);
  EXPECT_EQ(cpu_weight_of_shares(1024), 39U);
  EXPECT_EQ(cpu_weight_of_shares(262144), 10000U);
  EXPECT_EQ(cpu_weight_of_shares(1ULL << 60U), 10000U);
}

spec::Spec with_mounts(const std::string& mounts, const std::string& more = "") {
  return *spec::parse_spec(R"({"ociVersion": "1.0.2", "mounts": )" + mounts + R"(, "linux": {"x": 0)" + more + "}}");
}

TEST(MountPlan, EveryKindOfOption) {
  const auto plan = plan_mounts(with_mounts(R"([
      {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
      {"destination": "/t/", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "rw", "strictatime", "size=1m", "noswap", "tmpcopyup"]},
      {"destination": "v", "type": "bind", "source": "vol", "options": ["rbind", "rprivate", "ro", "rnosuid", "rrw"]},
      {"destination": "/w", "source": "/abs", "options": ["bind", "idmap", "slave", "norelatime"]},
      {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}])"),
                                "/bundle");
  ASSERT_TRUE(plan.has_value()) << plan.error().text();
  EXPECT_EQ(describe(*plan),
            "base slave\n"
            "mount proc on /proc set=nosuid,nodev,noexec\n"
            "mount tmpfs on /t set=strictatime clear=ro atime copy-up size=1m noswap\n"
            "rbind /bundle/vol on /v set=ro rset=nosuid rclear=ro rprivate\n"
            "bind /abs on /w set=strictatime atime slave idmap\n"
            "cgroup on /sys/fs/cgroup set=ro\n"
            "devices\n");
}

TEST(MountPlan, PropagationOfTheRoot) {
  const auto plan = plan_mounts(with_mounts("[]", R"(, "rootfsPropagation": "rshared")"), "/b");
  ASSERT_TRUE(plan.has_value());
  EXPECT_EQ(describe(*plan), "base shared\ndevices\nroot rshared\n");
  EXPECT_FALSE(plan_mounts(with_mounts("[]", R"(, "rootfsPropagation": "sometimes")"), "/b").has_value());
}

TEST(MountPlan, ABoundDevIsNotOurs) {
  const auto plan = plan_mounts(
      with_mounts(R"([{"destination": "/dev/", "type": "bind", "source": "/dev", "options": ["rbind"]}])"), "/b");
  ASSERT_TRUE(plan.has_value());
  EXPECT_EQ(describe(*plan), "base slave\nrbind /dev on /dev\n");
}

TEST(MountPlan, FaultsAreNamed) {
  EXPECT_THAT(plan_mounts(with_mounts(R"([{"destination": "/", "type": "tmpfs"}])"), "/b").error().text(),
              HasSubstr("mounts[0]"));
  EXPECT_EQ(plan_mounts(with_mounts(R"([{"destination": "/x", "source": "y"}])"), "/b").error().code(), Code::kInvalid);
  EXPECT_EQ(plan_mounts(with_mounts(R"([{"destination": "/x", "type": "tmpfs", "options": ["remount"]}])"), "/b")
                .error()
                .code(),
            Code::kUnsupported);
}

TEST(DevicePlan, DefaultsAndListed) {
  const auto spec = *spec::parse_spec(R"({"ociVersion": "1.0.2", "linux": {"devices": [
      {"path": "/dev/null", "type": "c", "major": 9, "minor": 9, "fileMode": 384}, {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]}})");
  const auto nodes = plan_devices(spec);
  ASSERT_TRUE(nodes.has_value());
  ASSERT_EQ(nodes->size(), 7U);
  EXPECT_EQ(nodes->front().path, "/dev/null");
  EXPECT_EQ(nodes->front().major, 9U);
  EXPECT_EQ(nodes->front().mode, 0600U);
  EXPECT_EQ(nodes->back().path, "/dev/fuse");
  EXPECT_FALSE(plan_devices(*spec::parse_spec(
                                R"({"ociVersion": "1.0.2", "linux": {"devices": [{"path": "/dev/x", "type": "z"}]}})"))
                   .has_value());
}

TEST(SysctlPlan, NamespacesDecide) {
  const auto check = [](const std::string& key, const std::string& namespaces) {
    return check_sysctls(*spec::parse_spec(R"({"ociVersion": "1", "linux": {"sysctl": {")" + key +
                                           R"(": "1"}, "namespaces": )" + namespaces + "}}")
                              ->linux)
        .has_value();
  };
  EXPECT_TRUE(check("net.core.somaxconn", R"([{"type": "network"}])"));
  EXPECT_TRUE(check("net/ipv4/conf/eth0.1/forwarding", R"([{"type": "network"}])"));
  EXPECT_TRUE(check("fs.mqueue.msg_max", R"([{"type": "ipc"}])"));
  EXPECT_FALSE(check("net.core.somaxconn", R"([{"type": "ipc"}])"));
  EXPECT_FALSE(check("kernel.core_pattern", R"([{"type": "ipc"}, {"type": "network"}, {"type": "uts"}])"));
  EXPECT_FALSE(check("net/../kernel/core_pattern", R"([{"type": "network"}])"));
}

TEST(Scheduling, Words) {
  spec::Scheduler scheduler;
  scheduler.policy = "SCHED_BATCH";
  scheduler.nice = 5;
  scheduler.flags = {"SCHED_FLAG_RESET_ON_FORK"};
  const auto attributes = scheduler_attributes(scheduler);
  ASSERT_TRUE(attributes.has_value());
  EXPECT_EQ(attributes->policy, 3U);
  EXPECT_EQ(attributes->flags, 1U);
  scheduler.policy = "SCHED_MAGIC";
  EXPECT_FALSE(scheduler_attributes(scheduler).has_value());
  EXPECT_EQ(io_class_number("IOPRIO_CLASS_IDLE").value_or(0), 3);
  EXPECT_FALSE(io_class_number("x").has_value());
}

TEST(Scheduling, IdLists) {
  using Set = std::vector<std::uint64_t>;
  EXPECT_EQ(parse_id_list("0-3,7").value_or(Set{}), (Set{0x8f}));
  EXPECT_EQ(parse_id_list(" 1 ,, 64-65,").value_or(Set{}), (Set{2, 3}));
  EXPECT_EQ(parse_id_list("65536").value_or(Set{}).size(), 1025U);
  const auto none = parse_id_list("");
  EXPECT_TRUE(none.has_value() && none->empty());
  for (const char* bad : {",", " ", "a", "1-", "-1", "3-1", "1-2-3", "65537", "99999999999", "1 2", "0x1"}) {
    const auto parsed = parse_id_list(bad);
    ASSERT_FALSE(parsed.has_value()) << bad;
    EXPECT_EQ(parsed.error().code(), Code::kInvalid) << bad;
  }
}

TEST(Scheduling, MemoryPolicies) {
  const auto policy = [](const char* mode, const char* nodes, std::vector<std::string> flags) {
    return memory_policy({.mode = mode, .nodes = nodes, .flags = std::move(flags), .extra = {}});
  };
  const auto bind = policy("MPOL_BIND", "0-1", {"MPOL_F_STATIC_NODES", "MPOL_F_NUMA_BALANCING"});
  ASSERT_TRUE(bind.has_value());
  EXPECT_EQ(bind->mode, 2 | (1 << 15) | (1 << 13));
  EXPECT_EQ(bind->nodes, std::vector<std::uint64_t>{3});
  EXPECT_EQ(policy("MPOL_DEFAULT", "", {}).value_or(MemoryPolicy{9, {}}).mode, 0);
  EXPECT_EQ(policy("MPOL_PREFERRED", "", {}).value_or(MemoryPolicy{}).mode, 1);
  EXPECT_EQ(policy("MPOL_WEIGHTED_INTERLEAVE", "0", {}).value_or(MemoryPolicy{}).mode, 6);
  for (const auto& bad : {policy("MPOL_NONSENSE", "", {}), policy("", "", {}), policy("MPOL_DEFAULT", "0", {}),
                          policy("MPOL_LOCAL", "0", {}), policy("MPOL_BIND", "", {}), policy("MPOL_INTERLEAVE", "", {}),
                          policy("MPOL_BIND", "x", {}), policy("MPOL_BIND", "0", {"MPOL_F_MAGIC"})}) {
    ASSERT_FALSE(bad.has_value());
    EXPECT_EQ(bad.error().code(), Code::kInvalid);
  }
  EXPECT_EQ(memory_policy_modes().size(), 7U);
  EXPECT_EQ(memory_policy_flags().size(), 3U);
}

std::string rdt_text(const spec::IntelRdt& config) {
  const auto plan = plan_rdt(config, "c1");
  if (!plan) return "error: " + plan.error().text();
  return "[" + plan->group + "] [" + plan->monitor + "] " + plan->schemata + (plan->own ? "own" : "") +
         (plan->must_exist ? "must exist" : "");
}

TEST(RdtPlan, GroupsAndSchemata) {
  spec::IntelRdt config;
  EXPECT_EQ(rdt_text(config), "[c1] [] own");
  config.enable_monitoring = true;
  config.schemata = {"L2:0=f", "MB:0=20"};
  config.mem_bw_schema = "MB:0=30";
  config.l3_cache_schema = "L3:0=7f0";
  EXPECT_EQ(rdt_text(config), "[c1] [c1/mon_groups/c1] L3:0=7f0\nMB:0=30\nL2:0=f\nMB:0=20\nown");
  config.clos_id = "gold";
  EXPECT_EQ(rdt_text(config), "[gold] [gold/mon_groups/c1] L3:0=7f0\nMB:0=30\nL2:0=f\nMB:0=20\n");
  EXPECT_EQ(rdt_text({.clos_id = "/", .enable_monitoring = true}), "[] [mon_groups/c1] must exist");
  EXPECT_EQ(rdt_text({.clos_id = "gold"}), "[gold] [] must exist");
  for (const char* bad : {".", "..", "a/b", "/a", "a/"}) {
    EXPECT_THAT(rdt_text({.clos_id = bad}), HasSubstr("closID")) << bad;
  }
  EXPECT_THAT(rdt_text({.mem_bw_schema = "L3:0=1"}), HasSubstr("MB:"));
  EXPECT_THAT(rdt_text({.schemata = {"L3:0=1\nMB:0=1"}}), HasSubstr("newline"));
  EXPECT_THAT(rdt_text({.l3_cache_schema = "L3:0=1\n"}), HasSubstr("newline"));
}

TEST(RdtPlan, SchemataAreComparedByMeaning) {
  constexpr std::string_view kThere = "    MB:0= 20;1= 70\n    L3:0=00007f0;1=000001F\n";
  EXPECT_TRUE(schemata_have(kThere, "L3:0=7f0;1=1f"));
  EXPECT_TRUE(schemata_have(kThere, "L3:1=1f"));
  EXPECT_TRUE(schemata_have(kThere, "MB:1=70;0=20"));
  EXPECT_FALSE(schemata_have(kThere, "L3:0=7f1"));
  EXPECT_FALSE(schemata_have(kThere, "L3:2=7f0"));
  EXPECT_FALSE(schemata_have(kThere, "L2:0=7f0"));
  EXPECT_FALSE(schemata_have(kThere, "nonsense"));
}

TEST(MountPlan, LabelsGoWhereTheyAreTaken) {
  const auto spec = spec::parse_spec(R"({"ociVersion": "1.0.2", "linux": {"mountLabel": "u:r:t:s0:c1,c2"}, "mounts": [
    {"destination": "/proc", "type": "proc"}, {"destination": "/sys", "type": "sysfs"},
    {"destination": "/dev", "type": "tmpfs", "options": ["mode=755"]},
    {"destination": "/dev/mqueue", "type": "mqueue"},
    {"destination": "/data", "type": "bind", "source": "/x", "options": ["rbind"]},
    {"destination": "/own", "type": "tmpfs", "options": ["context=u:r:other"]}]})");
  ASSERT_TRUE(spec.has_value());
  const auto plan = plan_mounts(*spec, "/bundle");
  ASSERT_TRUE(plan.has_value());
  EXPECT_EQ(describe(*plan),
            "base slave\nmount proc on /proc\nmount sysfs on /sys\n"
            "mount tmpfs on /dev mode=755 context=u:r:t:s0:c1,c2\n"
            "mount mqueue on /dev/mqueue label=u:r:t:s0:c1,c2\nrbind /x on /data\n"
            "mount tmpfs on /own context=u:r:other\ndevices\n");
}

}  // namespace
}  // namespace berth::engine::process
