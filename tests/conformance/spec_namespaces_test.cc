// Namespaces, ids and what is set in them: config-linux.md "Namespaces", "User namespace mappings", "Offset for Time
// Namespace", "Sysctl".
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>

#include "base/strings.h"
#include "os/file.h"
#include "spec_host.h"

namespace berth::test {
namespace {

using ::testing::HasSubstr;

/// A type as config.json has it, and its file in /proc/PID/ns.
constexpr std::pair<const char*, const char*> kKinds[] = {
    {"pid", "pid"}, {"network", "net"}, {"ipc", "ipc"}, {"uts", "uts"}, {"cgroup", "cgroup"}};

class Namespaces : public SpecTest {
 protected:
  static std::string path_of(pid_t pid, const std::string& kind) {
    return "/proc/" + std::to_string(pid) + "/ns/" + kind;
  }
  /// Root of the container is an unprivileged user of the machine, and owns its root file system.
  void map_ids() {
    set_namespace("user");
    linux_part()["uidMappings"] = Json::array({{{"containerID", 0}, {"hostID", 100000}, {"size", 65536}}});
    linux_part()["gidMappings"] = Json::array({{{"containerID", 0}, {"hostID", 200000}, {"size", 65536}}});
  }
};
INSTANTIATE_TEST_SUITE_P(Runtimes, Namespaces, ::testing::ValuesIn(spec_runtimes()), runtime_name);

TEST_P(Namespaces, ThoseThatAreNamedAreNew) {
  set_namespace("cgroup");
  const Json seen = report()["namespaces"];
  for (const auto& [type, kind] : kKinds) EXPECT_NE(seen[kind], own_namespace(kind)) << type;
  EXPECT_NE(seen["mnt"], own_namespace("mnt"));
  EXPECT_EQ(seen["user"], own_namespace("user"));
}

TEST_P(Namespaces, ThoseThatAreNotAreTheCallers) {
  for (const auto& [type, kind] : kKinds) {
    const Json before = linux_part();
    if (std::string_view(type) == "uts") config.erase("hostname");
    // The kernel gives neither mount to those who do not own the namespace's network.
    drop_namespace(type);
    EXPECT_EQ(report()["namespaces"][kind], own_namespace(kind)) << type;
    linux_part() = before;
  }
}

TEST_P(Namespaces, WithoutAMountNamespaceTheCallersIsUsed) {
  drop_namespace("mount");
  config["linux"].erase("maskedPaths");
  config["linux"].erase("readonlyPaths");
  config["mounts"] = Json::array({Json(config["mounts"][0])});
  config["root"]["readonly"] = false;
  write_config();
  // The caller has one of its own, so that what stays mounted goes with it.
  const auto ran = run_program({"unshare", "--mount", "/bin/sh", "-c",
                                "readlink /proc/self/ns/mnt; exec \"$0\" --root \"$1\" run --bundle \"$2\" one",
                                runtime().path, folder() + "/state", bundle()});
  ASSERT_TRUE(ran.has_value());
  EXPECT_EQ(ran->code, 0) << ran->err;
  const auto end = ran->out.find('\n');
  ASSERT_NE(end, std::string::npos);
  const Json seen = Json::parse(ran->out.substr(end + 1), nullptr, false);
  if (seen.is_object()) {
    EXPECT_EQ(seen["namespaces"]["mnt"], ran->out.substr(0, end));
  }
}

TEST_P(Namespaces, ThoseWithAPathAreJoined) {
  const pid_t holder = hold_namespaces({"--net", "--ipc", "--uts", "--cgroup"});
  for (const char* kind : {"net", "ipc", "uts", "cgroup"})
    set_namespace(std::string(kind) == "net" ? "network" : kind, path_of(holder, kind));
  config.erase("hostname");
  const Json seen = report()["namespaces"];
  for (const char* kind : {"net", "ipc", "uts", "cgroup"}) {
    char text[64] = {};
    ASSERT_GT(::readlink(path_of(holder, kind).c_str(), text, sizeof text - 1), 0);
    EXPECT_EQ(seen[kind], text);
  }
}

TEST_P(Namespaces, ThoseOfAnotherContainerAreJoined) {
  set_args({"/bin/probe", "signals"});
  ASSERT_EQ(create_and_start("other").code, 0);
  const pid_t other = state("other").value("pid", 0);
  ASSERT_GT(other, 1);
  config.erase("hostname");
  std::vector<std::pair<std::string, std::string>> wanted;
  for (const auto& [type, kind] : kKinds) {
    char text[64] = {};
    ASSERT_GT(::readlink(path_of(other, kind).c_str(), text, sizeof text - 1), 0);
    wanted.emplace_back(kind, text);
    if (std::string_view(type) != "cgroup") set_namespace(type, path_of(other, kind));
  }
  wanted.pop_back();
  linux_part()["cgroupsPath"] = cgroup() + "-second";
  set_args({"/bin/probe", "report"});
  const Json seen = report();
  for (const auto& [kind, text] : wanted) EXPECT_EQ(seen["namespaces"][kind], text);
  EXPECT_NE(seen["pid"], 1);
}

TEST_P(Namespaces, APathOfAnotherTypeIsRefused) {
  const pid_t holder = hold_namespaces({"--net", "--ipc", "--uts"});
  for (const auto& [type, kind] : {std::pair{"network", "ipc"}, {"ipc", "uts"}, {"uts", "net"}, {"pid", "net"}}) {
    const Json before = linux_part();
    config.erase("hostname");
    set_namespace(type, path_of(holder, kind));
    expect_refused(std::string(type) + " by a path of " + kind);
    linux_part() = before;
  }
}

TEST_P(Namespaces, APathThatIsNotThereIsRefused) {
  set_namespace("network", folder() + "/nowhere");
  expect_refused("a path that is not there");
}

TEST_P(Namespaces, APathThatIsNoNamespaceIsRefused) {
  write(folder() + "/file", "");
  set_namespace("network", folder() + "/file");
  expect_refused("a path that is no namespace");
}

TEST_P(Namespaces, ATypeIsGivenOnce) {
  linux_part()["namespaces"].push_back({{"type", "ipc"}});
  expect_refused("a type given twice");
}

TEST_P(Namespaces, AnUnknownTypeIsRefused) {
  linux_part()["namespaces"].push_back({{"type", "nosuch"}});
  expect_refused("an unknown type");
}

TEST_P(Namespaces, AHostnameNeedsANamespace) {
  drop_namespace("uts");
  config["hostname"] = "conformance";
  // What is there is set again where it is not refused: the machine's name is not this test's to change.
  char name[65] = {};
  ASSERT_EQ(::gethostname(name, sizeof name - 1), 0);
  config["hostname"] = name;
  expect_refused("a hostname of the caller's namespace");
}

TEST_P(Namespaces, TimeOffsetsAreSet) {
  set_namespace("time");
  linux_part()["timeOffsets"] = {{"monotonic", {{"secs", 1000000}, {"nanosecs", 0}}},
                                 {"boottime", {{"secs", 2000000}, {"nanosecs", 0}}}};
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const Json seen = report();
  EXPECT_NE(seen["namespaces"]["time"], own_namespace("time"));
  EXPECT_GE(seen.value("seconds", 0L), now.tv_sec + 1000000);
}

TEST_P(Namespaces, IdsAreMapped) {
  map_ids();
  const Json ids = report()["ids"];
  EXPECT_EQ(ids["uid"], Json({0, 0, 0}));
  EXPECT_EQ(ids["uid_map"], Json({"0", "100000", "65536"}));
  EXPECT_EQ(ids["gid_map"], Json({"0", "200000", "65536"}));
}

TEST_P(Namespaces, SeveralRangesAreMapped) {
  map_ids();
  linux_part()["uidMappings"].push_back({{"containerID", 70000}, {"hostID", 300000}, {"size", 2}});
  process()["user"] = {{"uid", 70001}, {"gid", 9}};
  const Json ids = report()["ids"];
  EXPECT_EQ(ids["uid"], Json({70001, 70001, 70001}));
  EXPECT_EQ(ids["uid_map"], Json({"0", "100000", "65536", "70000", "300000", "2"}));
}

TEST_P(Namespaces, DevicesWorkUnderMappedIds) {
  map_ids();
  const Json seen = access({"/dev/null", "/dev/zero", "/dev/full"});
  EXPECT_EQ(seen["/dev/null"]["write"], 0);
  EXPECT_EQ(seen["/dev/zero"]["read"], 0);
  EXPECT_EQ(seen["/dev/full"]["write"], ENOSPC);
}

TEST_P(Namespaces, AnIdOutsideTheMappingsIsRefused) {
  map_ids();
  process()["user"]["uid"] = 65536;
  expect_refused("a user without a mapping");
}

TEST_P(Namespaces, AUserNamespaceIsJoined) {
  const pid_t holder = hold_namespaces({"--user", "--map-root-user"});
  set_namespace("user", path_of(holder, "user"));
  // It has no other group than root's.
  config["mounts"][2]["options"] = {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"};
  const Json seen = report();
  char text[64] = {};
  ASSERT_GT(::readlink(path_of(holder, "user").c_str(), text, sizeof text - 1), 0);
  EXPECT_EQ(seen["namespaces"]["user"], text);
}

TEST_P(Namespaces, AMountMayHaveMappingsOfItsOwn) {
  map_ids();
  ASSERT_TRUE(os::make_dirs(folder() + "/source").has_value());
  write(folder() + "/source/file", "");
  ASSERT_EQ(::chown((folder() + "/source/file").c_str(), 7, 8), 0);
  add_mount("/home", "bind", folder() + "/source", {"bind", "idmap"});
  // On disk 7 is the machine's 100007, which in the container is 7.
  config["mounts"].back()["uidMappings"] = Json::array({{{"containerID", 0}, {"hostID", 100000}, {"size", 65536}}});
  config["mounts"].back()["gidMappings"] = Json::array({{{"containerID", 0}, {"hostID", 200000}, {"size", 65536}}});
  EXPECT_EQ(shell("stat -c '%u %g' /home/file"), "7 8\n");
}

TEST_P(Namespaces, SysctlsOfNamespacesAreSet) {
  linux_part()["sysctl"] = {{"net.ipv4.ip_forward", "1"}, {"kernel.msgmax", "4097"}, {"fs.mqueue.msg_max", "11"}};
  EXPECT_EQ(shell("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max"),
            "1\n4097\n11\n");
}

TEST_P(Namespaces, SysctlsOfTheMachineAreRefused) {
  // With the value that it has, so that nothing changes where it is not refused.
  const std::string now(trim(os::read_file("/proc/sys/vm/swappiness", 64).value_or("")));
  linux_part()["sysctl"] = {{"vm.swappiness", now}};
  expect_refused("a sysctl of the machine");
}

TEST_P(Namespaces, SysctlsOfTheCallersNetworkAreRefused) {
  drop_namespace("network");
  const std::string now(trim(os::read_file("/proc/sys/net/ipv4/ip_forward", 64).value_or("")));
  linux_part()["sysctl"] = {{"net.ipv4.ip_forward", now}};
  expect_refused("a sysctl of the caller's network");
}

TEST_P(Namespaces, AnUnknownSysctlIsRefused) {
  linux_part()["sysctl"] = {{"net.nosuch.key", "1"}};
  expect_refused("an unknown sysctl");
}

}  // namespace
}  // namespace berth::test
