// Control groups, devices and seccomp: config-linux.md "Control groups", "Devices", "Seccomp", "IntelRdt", as a machine
// with cgroup v1 shows them. The guest's tests have v2 (tests/vm).
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "base/strings.h"
#include "os/cgroup.h"
#include "os/file.h"
#include "spec_host.h"

namespace berth::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

/// A created container with these resources, whose cgroup's files are looked at.
class Resources : public SpecTest {
 protected:
  void SetUp() override {
    SpecTest::SetUp();
    if (!os::exists("/sys/fs/cgroup/memory")) GTEST_SKIP() << "the machine has no cgroup v1";
  }
  void create_with(const Json& resources) {
    for (const auto& [key, value] : resources.items()) linux_part()["resources"][key] = value;
    const Ran ran = create();
    ASSERT_EQ(ran.code, 0) << ran.err;
  }
  void add_device(const std::string& path, const std::string& type, int major, int minor, int mode) {
    linux_part()["devices"].push_back({{"path", path},
                                       {"type", type},
                                       {"major", major},
                                       {"minor", minor},
                                       {"fileMode", mode},
                                       {"uid", 3},
                                       {"gid", 4}});
  }
  void allow(const std::string& type, int major, int minor, const std::string& access_bits) {
    linux_part()["resources"]["devices"].push_back(
        {{"allow", true}, {"type", type}, {"major", major}, {"minor", minor}, {"access", access_bits}});
  }
};
INSTANTIATE_TEST_SUITE_P(Runtimes, Resources, ::testing::ValuesIn(spec_runtimes()), runtime_name);

TEST_P(Resources, AnAbsolutePathIsBelowTheTop) {
  ASSERT_EQ(create().code, 0);
  const auto pid = std::to_string(state().value("pid", 0));
  for (const char* controller : {"memory", "cpu", "pids", "devices", "freezer", "cpuset", "blkio"})
    EXPECT_EQ(cgroup_file(controller, "cgroup.procs"), pid) << controller;
}

TEST_P(Resources, ARelativePathIsKept) {
  linux_part()["cgroupsPath"] = cgroup().substr(1);
  const Json seen = report()["cgroup"];
  EXPECT_THAT(seen.dump(), HasSubstr(cgroup()));
}

TEST_P(Resources, Memory) {
  create_with({{"memory", {{"limit", 64 << 20}, {"reservation", 32 << 20}, {"swap", 128 << 20}, {"swappiness", 7}}}});
  EXPECT_EQ(cgroup_file("memory", "memory.limit_in_bytes"), "67108864");
  EXPECT_EQ(cgroup_file("memory", "memory.soft_limit_in_bytes"), "33554432");
  EXPECT_EQ(cgroup_file("memory", "memory.swappiness"), "7");
  const std::string swap = cgroup_file("memory", "memory.memsw.limit_in_bytes");
  EXPECT_TRUE(swap == "134217728" || swap == "none") << swap;
}

TEST_P(Resources, MemoryWithoutTheKillerOfTasks) {
  create_with({{"memory", {{"limit", 64 << 20}, {"disableOOMKiller", true}}}});
  EXPECT_THAT(cgroup_file("memory", "memory.oom_control"), HasSubstr("oom_kill_disable 1"));
}

TEST_P(Resources, MemoryOfTcp) {
  create_with({{"memory", {{"kernelTCP", 16 << 20}}}});
  EXPECT_EQ(cgroup_file("memory", "memory.kmem.tcp.limit_in_bytes"), "16777216");
}

TEST_P(Resources, Processors) {
  create_with({{"cpu", {{"shares", 333}, {"quota", 40000}, {"period", 80000}, {"cpus", "0"}, {"mems", "0"}}}});
  EXPECT_EQ(cgroup_file("cpu", "cpu.shares"), "333");
  EXPECT_EQ(cgroup_file("cpu", "cpu.cfs_quota_us"), "40000");
  EXPECT_EQ(cgroup_file("cpu", "cpu.cfs_period_us"), "80000");
  EXPECT_EQ(cgroup_file("cpuset", "cpuset.cpus"), "0");
  EXPECT_EQ(cgroup_file("cpuset", "cpuset.mems"), "0");
}

TEST_P(Resources, ProcessorsInBursts) {
  create_with({{"cpu", {{"quota", 40000}, {"period", 80000}, {"burst", 10000}}}});
  EXPECT_EQ(cgroup_file("cpu", "cpu.cfs_burst_us"), "10000");
}

TEST_P(Resources, ProcessorsThatAreIdle) {
  create_with({{"cpu", {{"idle", 1}}}});
  EXPECT_EQ(cgroup_file("cpu", "cpu.idle"), "1");
}

TEST_P(Resources, NumberOfProcesses) {
  create_with({{"pids", {{"limit", 77}}}});
  EXPECT_EQ(cgroup_file("pids", "pids.max"), "77");
}

TEST_P(Resources, NumberOfProcessesUnlimited) {
  create_with({{"pids", {{"limit", -1}}}});
  EXPECT_EQ(cgroup_file("pids", "pids.max"), "max");
}

TEST_P(Resources, BlockDevicesAreThrottled) {
  const auto devices = os::list_dir("/sys/block").value_or(std::vector<std::string>());
  ASSERT_FALSE(devices.empty());
  const std::string number(trim(os::read_file("/sys/block/" + devices.back() + "/dev", 64).value_or("")));
  const auto parts = split(number, ':');
  ASSERT_EQ(parts.size(), 2U);
  const auto rate = [&](int value) {
    return Json::array({{{"major", parse_number<int>(parts[0]).value_or(0)},
                         {"minor", parse_number<int>(parts[1]).value_or(0)},
                         {"rate", value}}});
  };
  create_with({{"blockIO",
                {{"throttleReadBpsDevice", rate(1000001)},
                 {"throttleWriteBpsDevice", rate(1000002)},
                 {"throttleReadIOPSDevice", rate(1003)},
                 {"throttleWriteIOPSDevice", rate(1004)}}}});
  EXPECT_EQ(cgroup_file("blkio", "blkio.throttle.read_bps_device"), number + " 1000001");
  EXPECT_EQ(cgroup_file("blkio", "blkio.throttle.write_bps_device"), number + " 1000002");
  EXPECT_EQ(cgroup_file("blkio", "blkio.throttle.read_iops_device"), number + " 1003");
  EXPECT_EQ(cgroup_file("blkio", "blkio.throttle.write_iops_device"), number + " 1004");
}

TEST_P(Resources, HugePagesWithoutTheirControllerAreRefused) {
  if (os::exists("/sys/fs/cgroup/hugetlb")) GTEST_SKIP() << "the machine has the controller";
  linux_part()["resources"]["hugepageLimits"] = Json::array({{{"pageSize", "2MB"}, {"limit", 2 << 20}}});
  expect_refused("a limit that cannot be set");
}

TEST_P(Resources, NetworkClassWithoutItsControllerIsRefused) {
  if (os::exists("/sys/fs/cgroup/net_cls")) GTEST_SKIP() << "the machine has the controller";
  linux_part()["resources"]["network"] = {{"classID", 1048577}};
  expect_refused("a class that cannot be set");
}

TEST_P(Resources, AnUpdateChangesLimits) {
  create_with({{"pids", {{"limit", 77}}}, {"memory", {{"limit", 64 << 20}}}});
  write(folder() + "/update.json", R"({"pids": {"limit": 55}, "memory": {"limit": 50331648}})");
  const Ran ran = oci({"update", "--resources", folder() + "/update.json", kId});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(cgroup_file("pids", "pids.max"), "55");
  EXPECT_EQ(cgroup_file("memory", "memory.limit_in_bytes"), "50331648");
}

TEST_P(Resources, DevicesAreMade) {
  add_device("/dev/of/char", "c", 1, 5, 0640);
  add_device("/dev/block", "b", 7, 200, 0600);
  add_device("/dev/unbuffered", "u", 1, 7, 0606);
  add_device("/dev/fifo", "p", 0, 0, 0620);
  const Json seen = access({"/dev/of/char", "/dev/block", "/dev/unbuffered", "/dev/fifo"});
  EXPECT_EQ(seen["/dev/of/char"].value("device", ""), "1:5");
  EXPECT_EQ(seen["/dev/of/char"].value("mode", 0), 0640);
  EXPECT_EQ(seen["/dev/of/char"].value("uid", 0), 3);
  EXPECT_EQ(seen["/dev/of/char"].value("gid", 0), 4);
  EXPECT_EQ(seen["/dev/block"].value("type", ""), "b");
  EXPECT_EQ(seen["/dev/block"].value("device", ""), "7:200");
  EXPECT_EQ(seen["/dev/unbuffered"].value("device", ""), "1:7");
  EXPECT_EQ(seen["/dev/fifo"].value("type", ""), "p");
}

TEST_P(Resources, DevicesAreDeniedUnlessAllowed) {
  // A number that no driver has: ENXIO says that the rules let it through.
  add_device("/dev/denied", "c", 1, 200, 0666);
  const Json denied = access({"/dev/denied"});
  EXPECT_EQ(denied["/dev/denied"]["read"], EPERM);
  EXPECT_EQ(denied["/dev/denied"]["write"], EPERM);
  allow("c", 1, 200, "r");
  const Json readable = access({"/dev/denied", "/dev/null"});
  EXPECT_EQ(readable["/dev/denied"]["read"], ENXIO);
  EXPECT_EQ(readable["/dev/denied"]["write"], EPERM);
  EXPECT_EQ(readable["/dev/null"]["write"], 0);
}

TEST_P(Resources, LaterDeviceRulesCount) {
  add_device("/dev/mine", "c", 1, 200, 0666);
  allow("c", 1, 200, "rwm");
  linux_part()["resources"]["devices"].push_back(
      {{"allow", false}, {"type", "c"}, {"major", 1}, {"minor", 200}, {"access", "w"}});
  const Json seen = access({"/dev/mine"});
  EXPECT_EQ(seen["/dev/mine"]["write"], EPERM);
  EXPECT_EQ(seen["/dev/mine"]["read"], ENXIO);
}

TEST_P(Resources, IntelRdtWithoutResctrlIsRefused) {
  if (os::exists("/sys/fs/resctrl/schemata")) GTEST_SKIP() << "the machine has resctrl";
  linux_part()["intelRdt"] = {{"closID", "berth-test"}, {"l3CacheSchema", "L3:0=f"}};
  expect_refused("intelRdt");
}

class Seccomp : public SpecTest {
 protected:
  void filter(const std::string& action, const Json& rules) {
    linux_part()["seccomp"] = {{"defaultAction", action}, {"architectures", {"SCMP_ARCH_X86_64"}}, {"syscalls", rules}};
  }
  static Json rule(std::vector<std::string> names, const std::string& action) {
    return {{"names", std::move(names)}, {"action", action}};
  }
};
INSTANTIATE_TEST_SUITE_P(Runtimes, Seccomp, ::testing::ValuesIn(spec_runtimes()), runtime_name);

TEST_P(Seccomp, WithoutAFilterThereIsNone) {
  EXPECT_EQ(report()["status"]["Seccomp"], "0");
}

TEST_P(Seccomp, ACallIsRefused) {
  filter("SCMP_ACT_ALLOW", Json::array({rule({"getppid"}, "SCMP_ACT_ERRNO")}));
  const Json seen = calls({"getppid", "sync"});
  EXPECT_EQ(seen["getppid"], EPERM);
  EXPECT_EQ(seen["sync"], 0);
}

TEST_P(Seccomp, TheErrorIsTheConfiguredOne) {
  Json refused = rule({"getppid"}, "SCMP_ACT_ERRNO");
  refused["errnoRet"] = ENOTTY;
  filter("SCMP_ACT_ALLOW", Json::array({refused}));
  EXPECT_EQ(calls({"getppid"})["getppid"], ENOTTY);
}

TEST_P(Seccomp, ArgumentsAreCompared) {
  Json one = rule({"personality"}, "SCMP_ACT_ERRNO");
  one["args"] = Json::array({{{"index", 0}, {"value", 8}, {"op", "SCMP_CMP_EQ"}}});
  filter("SCMP_ACT_ALLOW", Json::array({one}));
  const Json seen = calls({"personality8", "personality0"});
  EXPECT_EQ(seen["personality8"], EPERM);
  EXPECT_EQ(seen["personality0"], 0);
}

TEST_P(Seccomp, ACallMayEndTheProgram) {
  filter("SCMP_ACT_ALLOW", Json::array({rule({"getppid"}, "SCMP_ACT_KILL_PROCESS")}));
  set_args({"/bin/probe", "calls", "getppid"});
  EXPECT_EQ(run_once().code, 128 + SIGSYS);
}

TEST_P(Seccomp, ItIsThereWithoutNoNewPrivilegesToo) {
  process()["noNewPrivileges"] = false;
  filter("SCMP_ACT_ALLOW", Json::array({rule({"getppid"}, "SCMP_ACT_ERRNO")}));
  const Json seen = report()["status"];
  EXPECT_EQ(seen["Seccomp"], "2");
  EXPECT_EQ(seen["NoNewPrivs"], "0");
  EXPECT_EQ(calls({"getppid"})["getppid"], EPERM);
}

TEST_P(Seccomp, AnUnknownCallIsIgnored) {
  filter("SCMP_ACT_ALLOW", Json::array({rule({"no_such_call", "getppid"}, "SCMP_ACT_ERRNO")}));
  EXPECT_EQ(calls({"getppid"})["getppid"], EPERM);
}

TEST_P(Seccomp, AnUnknownActionIsRefused) {
  filter("SCMP_ACT_NOSUCH", Json::array());
  expect_refused("an unknown action");
}

TEST_P(Seccomp, AnUnknownArchitectureIsRefused) {
  filter("SCMP_ACT_ALLOW", Json::array({rule({"getppid"}, "SCMP_ACT_ERRNO")}));
  linux_part()["seccomp"]["architectures"] = {"SCMP_ARCH_NOSUCH"};
  expect_refused("an unknown architecture");
}

TEST_P(Seccomp, FlagsAreTaken) {
  filter("SCMP_ACT_ALLOW", Json::array({rule({"getppid"}, "SCMP_ACT_ERRNO")}));
  linux_part()["seccomp"]["flags"] = {"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"};
  EXPECT_EQ(calls({"getppid"})["getppid"], EPERM);
}

}  // namespace
}  // namespace berth::test
