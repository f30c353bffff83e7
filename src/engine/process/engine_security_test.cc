#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>

#include <functional>

#include "engine/process/test_container.h"

namespace berth::engine::process {
namespace {

using testing::EngineTest;
using ::testing::HasSubstr;
using ::testing::Not;

class SecurityTest : public EngineTest {};

TEST_F(SecurityTest, CapabilitySets) {
  auto spec = script_spec("grep Cap /proc/self/status");
  spec.process->capabilities = spec::Capabilities{.bounding = {"CAP_CHOWN", "CAP_KILL"},
                                                  .effective = {"CAP_CHOWN", "CAP_KILL"},
                                                  .inheritable = {"CAP_CHOWN"},
                                                  .permitted = {"CAP_CHOWN", "CAP_KILL"},
                                                  .ambient = {"CAP_CHOWN"},
                                                  .extra = {}};
  spec.process->user.uid = 1000;
  EXPECT_THAT(run(spec).out,
              HasSubstr("CapInh:\t0000000000000001\nCapPrm:\t0000000000000001\nCapEff:\t0000000000000001\n"
                        "CapBnd:\t0000000000000021\nCapAmb:\t0000000000000001\n"));
  spec.process->user.uid = 0;
  EXPECT_THAT(run(spec).out, HasSubstr("CapEff:\t0000000000000021\n"));
  spec.process->capabilities.reset();
  EXPECT_THAT(run(spec).out, HasSubstr("CapBnd:\t0000000000000000\n"));
}

TEST_F(SecurityTest, NoNewPrivileges) {
  auto spec = script_spec("grep NoNewPrivs /proc/self/status");
  EXPECT_EQ(run(spec).out, "NoNewPrivs:\t0\n");
  spec.process->no_new_privileges = true;
  EXPECT_EQ(run(spec).out, "NoNewPrivs:\t1\n");
}

spec::Seccomp deny_mkdir() {
  spec::Seccomp seccomp;
  seccomp.default_action = "SCMP_ACT_ALLOW";
  seccomp.architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86"};
  seccomp.syscalls.push_back({.names = {"mkdir", "mkdirat", "no_such_syscall"},
                              .action = "SCMP_ACT_ERRNO",
                              .errno_ret = 31,
                              .args = {},
                              .extra = {}});
  seccomp.syscalls.push_back({.names = {"kill"},
                              .action = "SCMP_ACT_ERRNO",
                              .errno_ret = {},
                              .args = {{.index = 1, .value = 10, .value_two = 0, .op = "SCMP_CMP_EQ", .extra = {}}},
                              .extra = {}});
  return seccomp;
}

TEST_F(SecurityTest, SeccompWithAndWithoutNoNewPrivileges) {
  for (const bool no_new_privileges : {true, false}) {
    auto spec = script_spec(
        "grep Seccomp: /proc/self/status; mkdir /x; kill -10 $$; kill -0 $$ && echo alive; grep CapEff "
        "/proc/self/status");
    spec.process->no_new_privileges = no_new_privileges;
    spec.linux->seccomp = deny_mkdir();
    spec.process->user.uid = no_new_privileges ? 0 : 1000;
    const auto out = run(spec).out;
    EXPECT_THAT(out, HasSubstr("Seccomp:\t2\n"));
    EXPECT_THAT(out, HasSubstr("mkdir: can't create directory '/x': Too many links"));
    EXPECT_THAT(out, HasSubstr("Operation not permitted"));
    EXPECT_THAT(out, HasSubstr("alive"));
    EXPECT_THAT(out, HasSubstr(no_new_privileges ? "CapEff:\t00000000a80425fb" : "CapEff:\t0000000000000000"));
  }
}

TEST_F(SecurityTest, SeccompFaultsAreNamed) {
  auto spec = script_spec("true");
  spec.linux->seccomp = deny_mkdir();
  spec.linux->seccomp->syscalls[0].action = "SCMP_ACT_NONSENSE";
  EXPECT_EQ(refused(spec).code(), Code::kInvalid);
  spec.linux->seccomp->syscalls[0].action = "SCMP_ACT_NOTIFY";
  EXPECT_EQ(refused(spec).code(), Code::kInvalid) << "no listenerPath";
  spec.linux->seccomp = deny_mkdir();
  spec.linux->seccomp->listener_metadata = "x";
  EXPECT_EQ(refused(spec).code(), Code::kInvalid) << "metadata for nobody";
  spec.linux->seccomp = deny_mkdir();
  spec.linux->seccomp->architectures = {"SCMP_ARCH_PDP11"};
  EXPECT_THAT(refused(spec).text(), HasSubstr("SCMP_ARCH_PDP11"));
}

TEST_F(SecurityTest, Sysctls) {
  auto spec = script_spec("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced");
  spec.linux->sysctl = {{"net.ipv4.ip_forward", "1"}, {"kernel.shm_rmid_forced", "1"}};
  EXPECT_EQ(run(spec).out, "1\n1\n");
  spec.linux->sysctl = {{"kernel.panic", "1"}};
  EXPECT_THAT(refused(spec).text(), HasSubstr("not in a separate kernel namespace"));
  spec.linux->sysctl = {{"net.ipv4.ip_forward", "1"}};
  std::erase_if(spec.linux->namespaces, [](const auto& n) { return n.type == spec::NamespaceType::kNetwork; });
  EXPECT_THAT(refused(spec).text(), HasSubstr("would change the host's"));
}

TEST_F(SecurityTest, RlimitsAreSetAndClamped) {
  auto spec = script_spec("ulimit -n; ulimit -c; grep 'Max open files' /proc/self/limits");
  spec.process->rlimits = {{.type = "RLIMIT_NOFILE", .hard = 1000, .soft = 500, .extra = {}},
                           {.type = "RLIMIT_CORE", .hard = 0, .soft = 0, .extra = {}}};
  EXPECT_THAT(run(spec).out, HasSubstr("500\n0\n"));
  spec.process->rlimits = {{.type = "RLIMIT_NOFILE", .hard = 1ULL << 40, .soft = 700, .extra = {}}};
  EXPECT_THAT(run(spec).out, HasSubstr("700\n")) << "raised as far as allowed, with a warning";
  spec.process->rlimits = {{.type = "RLIMIT_WISHES", .hard = 1, .soft = 1, .extra = {}}};
  EXPECT_EQ(refused(spec).code(), Code::kInvalid);
}

TEST_F(SecurityTest, OomScoreIsAHint) {
  auto spec = script_spec("cat /proc/self/oom_score_adj");
  spec.process->oom_score_adj = 500;
  EXPECT_EQ(run(spec).out, "500\n");
  spec.process->oom_score_adj = -998;
  EXPECT_EQ(run(spec).code, 0) << "refused without CAP_SYS_RESOURCE, and tolerated";
}

TEST_F(SecurityTest, LabelsAreDemandedOrAbsent) {
  auto spec = script_spec("true");
  spec.process->apparmor_profile = "unconfined";
  EXPECT_EQ(run(spec).code, 0);
  if (os::exists("/sys/kernel/security/apparmor")) GTEST_SKIP() << "AppArmor is active here";
  spec.process->apparmor_profile = "berth-default";
  EXPECT_EQ(refused(spec).code(), Code::kUnsupported);
  spec.process->apparmor_profile.clear();
  spec.process->selinux_label = "system_u:system_r:container_t:s0";
  EXPECT_EQ(refused(spec).code(), Code::kUnsupported);
}

TEST_F(SecurityTest, UserNamespaceWithMaps) {
  auto spec = script_spec(
      "cat /proc/self/uid_map | tr -s ' '; id -u; touch /tmp/made && stat -c %u /tmp/made; echo x > /dev/null && echo "
      "null; mount -t tmpfs x /mnt 2>&1; hostname");
  spec.linux->namespaces.push_back({.type = spec::NamespaceType::kUser, .path = "", .extra = {}});
  spec.linux->uid_mappings = {{.container_id = 0, .host_id = 100000, .size = 65536, .extra = {}}};
  spec.linux->gid_mappings = {{.container_id = 0, .host_id = 100000, .size = 65536, .extra = {}}};
  ASSERT_EQ(std::system(("chmod 755 " + bundle_.path() + " && chown -R 100000:100000 " + bundle_.path() +
                         "/rootfs && ln -sf busybox " + bundle_.path() + "/rootfs/bin/tr")
                            .c_str()),
            0);  // NOLINT
  const auto out = run(spec).out;
  EXPECT_THAT(out, HasSubstr(" 0 100000 65536\n0\n0\nnull\n"));
  EXPECT_THAT(out, HasSubstr("berth-test\n"));
  struct stat st{};
  ASSERT_EQ(::stat((bundle_.path() + "/rootfs/tmp/made").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 100000U);
}

TEST_F(SecurityTest, UserNamespaceWithJoinedNetwork) {
  // A namespace of the host's cannot be joined from inside a user namespace: the helper in between must do it.
  auto net = os::open_file("/proc/self/ns/net", O_RDONLY);
  ASSERT_TRUE(net.has_value());
  auto spec = script_spec("readlink /proc/self/ns/net; id -u");
  for (auto& entry : spec.linux->namespaces) {
    if (entry.type == spec::NamespaceType::kNetwork) entry.path = "/proc/self/ns/net";
  }
  spec.mounts.erase(spec.mounts.begin() + 4, spec.mounts.end());  // sysfs is the host's there
  spec.linux->namespaces.push_back({.type = spec::NamespaceType::kUser, .path = "", .extra = {}});
  spec.linux->uid_mappings = {{.container_id = 0, .host_id = 100000, .size = 65536, .extra = {}}};
  spec.linux->gid_mappings = spec.linux->uid_mappings;
  ASSERT_EQ(std::system(("chown -R 100000:100000 " + bundle_.path() + "/rootfs").c_str()), 0);  // NOLINT
  const auto out = run(spec).out;
  struct stat st{};
  ASSERT_EQ(::fstat(net->get(), &st), 0);
  EXPECT_EQ(out, "net:[" + std::to_string(st.st_ino) + "]\n0\n");
}

TEST_F(SecurityTest, IdmappedBindMount) {
  const std::string source = bundle_.path() + "/owned";
  ASSERT_TRUE(os::make_dirs(source).has_value());
  ASSERT_TRUE(os::write_file_atomic(source + "/f", "x").has_value());
  auto spec = script_spec("stat -c %u:%g /m/f");
  spec::Mount mount;
  mount.destination = "/m";
  mount.type = "bind";
  mount.source = source;
  mount.options = {"bind"};
  mount.uid_mappings = {{.container_id = 0, .host_id = 5000, .size = 100, .extra = {}}};
  mount.gid_mappings = {{.container_id = 0, .host_id = 6000, .size = 100, .extra = {}}};
  spec.mounts.push_back(mount);
  struct statfs type{};
  ASSERT_EQ(::statfs(source.c_str(), &type), 0);
  utsname kernel{};
  ::uname(&kernel);
  const bool before_6_3 = std::string_view(kernel.release).starts_with("6.1.");
  if (type.f_type == TMPFS_MAGIC && before_6_3) GTEST_SKIP() << "a tmpfs takes no id map before Linux 6.3";
  EXPECT_EQ(run(spec).out, "5000:6000\n");
}

TEST_F(SecurityTest, TimeNamespaceWithOffsets) {
  auto spec = script_spec("cat /proc/uptime");
  spec.linux->namespaces.push_back({.type = spec::NamespaceType::kTime, .path = "", .extra = {}});
  spec.linux->time_offsets = {{"boottime", {.secs = 10'000'000, .nanosecs = 0, .extra = {}}}};
  EXPECT_THAT(run(spec).out, ::testing::MatchesRegex("100[0-9][0-9][0-9][0-9][0-9]\\.[0-9]+ [0-9.]+\n"));
}

TEST_F(SecurityTest, JoinsNamespacesByPath) {
  auto holder = create(script_spec("sleep 100"));
  ASSERT_NE(holder, nullptr);
  ASSERT_TRUE(holder->start().has_value());
  const std::string ns = "/proc/" + std::to_string(holder->init().pid) + "/ns/";
  testing::Bundle other;
  auto spec = testing::default_spec(
      other, {"/bin/sh", "-c",
              "hostname; for n in net uts ipc pid; do readlink /proc/self/ns/$n; done; ps | grep -c 'sleep 100'"});
  spec.hostname.clear();
  for (auto& entry : spec.linux->namespaces) {
    if (entry.type == spec::NamespaceType::kNetwork) entry.path = ns + "net";
    if (entry.type == spec::NamespaceType::kUts) entry.path = ns + "uts";
    if (entry.type == spec::NamespaceType::kIpc) entry.path = ns + "ipc";
    if (entry.type == spec::NamespaceType::kPid) entry.path = ns + "pid";
  }
  std::string expected = "berth-test\n";
  for (const char* name : {"net", "uts", "ipc", "pid"}) {
    struct stat st{};
    ASSERT_EQ(::stat((ns + name).c_str(), &st), 0);
    expected += std::string(name) + ":[" + std::to_string(st.st_ino) + "]\n";
  }
  EXPECT_THAT(testing::run_container(*engine_, other, spec).out, ::testing::StartsWith(expected));
  spec.linux->namespaces[1].path = ns + "uts";
  CreateRequest request;
  request.id = other.name();
  request.bundle = other.path();
  request.spec = spec;
  const auto wrong = engine_->create_process(std::move(request));
  ASSERT_FALSE(wrong.has_value());
  EXPECT_THAT(wrong.error().text(), HasSubstr("is not a network namespace"));
  finish(*holder);
}

TEST_F(SecurityTest, AWorkingFolderOutsideTheRootIsRefused) {
  // CVE-2024-21626: a descriptor of a host folder, reached through /proc/self/fd. None of ours is open that late.
  for (int fd = 3; fd < 40; ++fd) {
    auto spec = script_spec("pwd");
    spec.process->cwd = "/proc/self/fd/" + std::to_string(fd);
    const Error error = refused(spec);
    EXPECT_THAT(error.text(), ::testing::AnyOf(HasSubstr("chdir to cwd"), HasSubstr("container's root"))) << fd;
  }
}

TEST_F(SecurityTest, UnbuiltFieldsAreRefused) {
  const auto expect = [this](const std::function<void(spec::Spec&)>& change) {
    auto spec = script_spec("true");
    change(spec);
    EXPECT_EQ(refused(spec).code(), Code::kUnsupported);
  };
  if (!os::exists("/sys/fs/resctrl/schemata")) {
    expect([](spec::Spec& spec) { spec.linux->intel_rdt.emplace(); });
  }
  expect([](spec::Spec& spec) { spec.linux->cgroups_path = "system.slice:berth:x"; });
  if (os::exists("/sys/fs/cgroup/cgroup.controllers")) return;
  expect([](spec::Spec& spec) { spec.linux->resources.emplace().unified = {{"memory.max", "1"}}; });
}

}  // namespace
}  // namespace berth::engine::process
