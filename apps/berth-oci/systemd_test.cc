#include <gmock/gmock.h>
#include <sys/mount.h>

#include <csignal>

#include "base/strings.h"
#include "oci_fixture.h"
#include "os/spawn.h"
#include "spec/json_text.h"

/// --systemd-cgroup under a real systemd. Needs root; tests/vm/run_guest --systemd brings such a machine.
namespace berth::oci {
namespace {

using testing::default_spec;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::program;
using testing::run_words;

constexpr int kPolls = 10'000;  // of a millisecond: systemd tidies up behind our back, and slowly under emulation

template <class Condition>
bool eventually(const Condition& condition) {
  for (int i = 0; i < kPolls; ++i) {
    if (condition()) return true;
    ::usleep(1000);
  }
  return false;
}

std::string text_of(const std::string& path) {
  const auto text = os::read_file(path, 1U << 20);
  return text ? std::string(trim(*text)) : text.error().text();
}

class SystemdTest : public testing::OciTest {
 protected:
  void SetUp() override {
    OciTest::SetUp();
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    if (!os::exists("/run/systemd/private")) GTEST_SKIP() << "no systemd runs here";
  }
  void TearDown() override {
    if (IsSkipped()) return;
    OciTest::TearDown();
    EXPECT_TRUE(eventually([this] { return units().empty(); })) << units();
    EXPECT_FALSE(os::exists(folder()));
    run({"systemctl", "stop", "berthtest-inner.slice", "berthtest.slice"});
  }
  os::RunOutput run(std::vector<std::string> words, const std::string& input = "") {
    return run_words(std::move(words), bundle_.path(), input);
  }
  void detached(const std::string& words, int expected = 0) {
    const auto output =
        run({"sh", "-c", program() + " --systemd-cgroup --root " + root() + " " + words + " > out 2>&1 < /dev/null"});
    EXPECT_EQ(output.exit_code, expected) << text_of(bundle_.path() + "/out");
  }
  spec::Spec spec_of(const std::string& script) {
    auto spec = default_spec(bundle_, {"/bin/sh", "-c", script});
    spec.linux->cgroups_path = "berthtest-inner.slice:p:" + bundle_.name();
    return spec;
  }
  std::string unit() { return "p-" + bundle_.name() + ".scope"; }
  std::string group() { return "/berthtest.slice/berthtest-inner.slice/" + unit(); }
  static bool v2() { return os::exists("/sys/fs/cgroup/cgroup.controllers"); }
  std::string folder(const std::string& controller = "memory") {
    return "/sys/fs/cgroup" + (v2() ? "" : "/" + controller) + group();
  }
  std::string file(const std::string& v2_name, const std::string& v1_name) {
    const std::string& name = v2() ? v2_name : v1_name;
    return text_of(folder(name.substr(0, name.find('.'))) + "/" + name);
  }
  std::string show(const std::string& property) {
    return std::string(trim(run({"systemctl", "show", "-P", property, unit()}).out));
  }
  std::string units() {
    return run({"systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", unit()}).out;
  }
  /// Init is in the scope, in every hierarchy.
  void expect_everywhere() {
    const std::string text = text_of("/proc/" + text_of(bundle_.path() + "/pid") + "/cgroup");
    for (const auto line : split(text, '\n')) EXPECT_TRUE(line.ends_with(":" + group())) << line;
  }
  /// The memory limit and the others, wherever they are seen.
  void expect_limits(const std::string& memory, const std::string& tasks) {
    EXPECT_EQ(show(v2() ? "MemoryMax" : "MemoryLimit"), memory);
    EXPECT_EQ(file("memory.max", "memory.limit_in_bytes"), memory);
    EXPECT_EQ(show("TasksMax"), tasks);
    EXPECT_EQ(file("pids.max", "pids.max"), tasks);
  }
};

spec::Resources some_limits() {
  spec::Resources resources;
  resources.memory.emplace().limit = 64 << 20;
  resources.cpu.emplace().shares = 512;
  resources.cpu->quota = 25'000;
  resources.cpu->period = 50'000;
  resources.cpu->cpus = "0";
  resources.pids.emplace().limit = 20;
  return resources;
}

TEST_F(SystemdTest, AContainerIsAScopeInItsSlice) {
  write_config(spec_of("sleep 1000"));
  detached("run --detach --pid-file pid " + bundle_.name());
  EXPECT_EQ(show("ActiveState"), "active");
  EXPECT_EQ(show("ControlGroup"), group());
  EXPECT_EQ(show("Slice"), "berthtest-inner.slice");
  EXPECT_EQ(show("Delegate"), "yes");
  EXPECT_EQ(show("Description"), "container " + bundle_.name());
  EXPECT_EQ(show("TasksMax"), "infinity");
  const std::string pid = text_of(bundle_.path() + "/pid");
  EXPECT_EQ(text_of(folder() + "/cgroup.procs"), pid) << "the program that made the scope has left it";
  expect_everywhere();
  EXPECT_EQ(oci({"ps", "-f", "json", bundle_.name()}).out, "[" + pid + "]\n");
  EXPECT_EQ(oci({"kill", bundle_.name(), "KILL"}).exit_code, 0);
  EXPECT_TRUE(eventually([this] { return status() == "stopped"; }));
  EXPECT_EQ(oci({"delete", bundle_.name()}).exit_code, 0);
  EXPECT_TRUE(eventually([this] { return units().empty(); }));
}

TEST_F(SystemdTest, AnEmptyPathMeansTheSystemSlice) {
  auto spec = spec_of("cat /proc/1/cgroup");
  spec.linux->cgroups_path = "";
  spec.linux->namespaces.erase(spec.linux->namespaces.end() - 1);  // the cgroup namespace, to see the whole path
  write_config(spec);
  const auto output = oci({"--systemd-cgroup", "run", bundle_.name()});
  EXPECT_EQ(output.exit_code, 0) << output.err;
  EXPECT_THAT(output.out, HasSubstr(":/system.slice/berth-" + bundle_.name() + ".scope\n"));
  EXPECT_FALSE(os::exists("/sys/fs/cgroup/system.slice/berth-" + bundle_.name() + ".scope"));
}

TEST_F(SystemdTest, LimitsAreSystemdsToo) {
  auto spec = spec_of("sleep 1000");
  spec.linux->resources = some_limits();
  write_config(spec);
  detached("run --detach " + bundle_.name());
  expect_limits("67108864", "20");
  EXPECT_EQ(show("CPUQuotaPerSecUSec"), "500ms");
  EXPECT_EQ(show("CPUQuotaPeriodUSec"), "50ms");
  if (v2()) {
    EXPECT_EQ(text_of(folder() + "/cpu.max"), "25000 50000");
    EXPECT_EQ(show("CPUWeight"), "20");
    EXPECT_EQ(text_of(folder() + "/cpu.weight"), "20");
    EXPECT_EQ(show("AllowedCPUs"), "0");
    EXPECT_EQ(text_of(folder() + "/cpuset.cpus"), "0");
  } else {
    EXPECT_EQ(show("CPUShares"), "512");
    EXPECT_EQ(text_of(folder("cpu,cpuacct") + "/cpu.shares"), "512");
    EXPECT_EQ(text_of(folder("cpuset") + "/cpuset.cpus"), "0") << "a hierarchy that systemd does not use";
  }
  // Another process, which is not told of systemd, changes them.
  EXPECT_EQ(oci({"update", "--memory", "50331648", "--pids-limit", "30", bundle_.name()}).exit_code, 0);
  expect_limits("50331648", "30");
  // systemd writes what it knows again whenever it reads its units again.
  EXPECT_EQ(run({"systemctl", "daemon-reload"}).exit_code, 0);
  expect_limits("50331648", "30");
  // And all of a controller's files when somebody changes one of them.
  const auto set_property = [this](const std::string& words) {
    EXPECT_EQ(run({"systemctl", "set-property", "--runtime", unit(), words}).exit_code, 0) << words;
  };
  set_property(v2() ? "MemoryHigh=41943040" : "MemoryAccounting=yes");
  expect_limits("50331648", "30");
  EXPECT_EQ(show("CPUQuotaPerSecUSec"), "500ms");
  EXPECT_EQ(file("cpu.max", "cpu.cfs_quota_us"), v2() ? "25000 50000" : "25000");
  EXPECT_EQ(oci({"update", "--pids-limit", "-1", "--cpu-quota", "-1", bundle_.name()}).exit_code, 0);
  EXPECT_EQ(show("TasksMax"), "infinity");
  EXPECT_EQ(file("pids.max", "pids.max"), "max");
  EXPECT_EQ(show("CPUQuotaPerSecUSec"), "infinity");
}

TEST_F(SystemdTest, DeviceRulesOutliveAReload) {
  auto spec = spec_of(
      "mknod /dev/console2 c 5 1; mknod /dev/serial c 4 64; while ! test -e /tmp/go; do sleep 0.01; done; "
      "(: < /dev/console2) 2> /dev/null || echo closed; (: < /dev/serial) && echo listed; sleep 1000");
  auto& devices = spec.linux->resources.emplace().devices;
  devices.push_back({.allow = false, .type = "", .major = {}, .minor = {}, .access = "rwm", .extra = {}});
  devices.push_back({.allow = true, .type = "c", .major = 4, .minor = 64, .access = "rwm", .extra = {}});
  write_config(spec);
  detached("run --detach --pid-file pid " + bundle_.name());
  EXPECT_EQ(run({"systemctl", "daemon-reload"}).exit_code, 0);
  EXPECT_EQ(oci({"update", "--pids-limit", "100", bundle_.name()}).exit_code, 0);
  EXPECT_EQ(run({"systemctl", "daemon-reload"}).exit_code, 0);
  // Under v1 systemd writes all rules again when one is added. Under v2 it would have a program of its own then.
  const std::string more = v2() ? "Description=none" : "DeviceAllow=/dev/null rw";
  EXPECT_EQ(run({"systemctl", "set-property", "--runtime", unit(), more}).exit_code, 0);
  ASSERT_TRUE(os::write_file_atomic(bundle_.path() + "/rootfs/tmp/go", "").has_value());
  EXPECT_TRUE(eventually([this] { return text_of(bundle_.path() + "/out").ends_with("listed"); }));
  EXPECT_EQ(text_of(bundle_.path() + "/out"), "closed\nlisted");
  expect_everywhere();
}

TEST_F(SystemdTest, OneProcessThatIsKilledForLackOfMemoryIsNotTheEnd) {
  auto spec = spec_of("(dd if=/dev/zero of=/dev/null bs=200M count=1); echo survived; sleep 1000");
  spec.linux->resources.emplace().memory.emplace().limit = 20 << 20;
  spec.linux->resources->memory->swap = 20 << 20;
  write_config(spec);
  detached("run --detach " + bundle_.name());
  EXPECT_TRUE(eventually([this] { return text_of(bundle_.path() + "/out").find("survived") != std::string::npos; }));
  EXPECT_EQ(status(), "running");
  EXPECT_EQ(show("ActiveState"), "active");
  EXPECT_THAT(file("memory.events", "memory.oom_control"), HasSubstr("oom_kill 1"));
}

TEST_F(SystemdTest, PauseAndResume) {
  write_config(spec_of("sleep 1000"));
  detached("run --detach " + bundle_.name());
  EXPECT_EQ(oci({"pause", bundle_.name()}).exit_code, 0);
  EXPECT_EQ(status(), "paused");
  EXPECT_EQ(oci({"resume", bundle_.name()}).exit_code, 0);
  EXPECT_EQ(status(), "running");
  // A frozen one is deleted as well.
  EXPECT_EQ(oci({"pause", bundle_.name()}).exit_code, 0);
  EXPECT_EQ(oci({"delete", "--force", bundle_.name()}).exit_code, 0);
  EXPECT_TRUE(eventually([this] { return units().empty(); }));
}

TEST_F(SystemdTest, ExecGoesIntoTheScopeOrBelowIt) {
  auto spec = spec_of("sleep 1000");
  spec.linux->namespaces.erase(spec.linux->namespaces.end() - 1);
  write_config(spec);
  detached("run --detach " + bundle_.name());
  const auto plain = oci({"exec", bundle_.name(), "cat", "/proc/self/cgroup"});
  EXPECT_THAT(plain.out, HasSubstr(":" + group() + "\n")) << plain.err;
  const auto below = oci({"exec", "--cgroup", "sub", bundle_.name(), "cat", "/proc/self/cgroup"});
  EXPECT_THAT(below.out, HasSubstr(":" + group() + "/sub\n")) << below.err;
  EXPECT_EQ(show("ActiveState"), "active");
}

TEST_F(SystemdTest, AnnotationsAreProperties) {
  auto spec = spec_of("sleep 1000");
  spec.annotations = {{"org.systemd.property.TimeoutStopSec", "7"},
                      {"org.systemd.property.Description", "'of my own'"}};
  write_config(spec);
  detached("run --detach " + bundle_.name());
  EXPECT_EQ(show("TimeoutStopUSec"), "7s");
  EXPECT_EQ(show("Description"), "of my own");
}

TEST_F(SystemdTest, WhatSystemdRefusesLeavesNothing) {
  auto spec = spec_of("sleep 1000");
  spec.annotations = {{"org.systemd.property.NoSuchProperty", "true"}};
  write_config(spec);
  detached("create " + bundle_.name(), 1);
  EXPECT_THAT(text_of(bundle_.path() + "/out"), HasSubstr("NoSuchProperty"));
  EXPECT_THAT(units(), IsEmpty());
  spec.annotations.clear();
  spec.process->args = {"/bin/sh"};
  spec.process->cwd = "/proc/self/nowhere";  // fails in init, when the scope is there
  write_config(spec);
  detached("create " + bundle_.name(), 1);
  EXPECT_TRUE(eventually([this] { return units().empty(); })) << text_of(bundle_.path() + "/out");
  EXPECT_FALSE(os::exists(folder()));
  EXPECT_EQ(oci({"list", "--quiet"}).out, "");
}

TEST_F(SystemdTest, AUnitThatIsThereIsNotTaken) {
  write_config(spec_of("sleep 1000"));
  detached("run --detach " + bundle_.name());
  detached("create other", 1);
  EXPECT_THAT(text_of(bundle_.path() + "/out"), HasSubstr(unit()));
  EXPECT_EQ(status(), "running");
  EXPECT_EQ(show("ActiveState"), "active");
}

TEST_F(SystemdTest, TheEndOfACallerInTheMiddleLeavesNothing) {
  // Hooks run in the middle of the creation: this one ends its runtime there.
  auto spec = spec_of("sleep 1000");
  spec.hooks.emplace().create_runtime.push_back({.path = "/bin/sh",
                                                 .args = {"sh", "-c", "kill -9 $PPID; sleep 0.2"},
                                                 .env = {"PATH=/bin:/usr/bin"},
                                                 .timeout = {},
                                                 .extra = {}});
  write_config(spec);
  detached("create " + bundle_.name(), 137);
  EXPECT_TRUE(eventually([this] { return units().empty(); })) << units();
  EXPECT_TRUE(eventually([this] { return !os::exists(folder()); }));
  EXPECT_EQ(oci({"delete", "--force", bundle_.name()}).exit_code, 0);
}

TEST_F(SystemdTest, APathOfAnotherFormIsRefused) {
  auto spec = spec_of("sleep 1000");
  spec.linux->cgroups_path = "/some/path";
  write_config(spec);
  detached("create " + bundle_.name(), 1);
  EXPECT_THAT(text_of(bundle_.path() + "/out"), HasSubstr("to be of format \\\"slice:prefix:name\\\""));
  // And the other way about.
  write_config(spec_of("sleep 1000"));
  EXPECT_THAT(oci({"create", bundle_.name()}).err, HasSubstr("which is not in use here"));
}

TEST_F(SystemdTest, WithoutABusItSaysSo) {
  write_config(spec_of("sleep 1000"));
  const auto output = run({"unshare", "-m", "sh", "-c",
                           "mount -t tmpfs none /run && exec " + program() + " --systemd-cgroup --root " + root() +
                               " create " + bundle_.name()});
  EXPECT_EQ(output.exit_code, 1);
  EXPECT_THAT(output.err, HasSubstr("no systemd of the system can be reached"));
  EXPECT_THAT(output.err, HasSubstr("/run/systemd/private: No such file or directory"));
}

/// A user's own manager, whose cgroups are the user's.
class UserSystemdTest : public SystemdTest {
 protected:
  void SetUp() override {
    SystemdTest::SetUp();
    if (IsSkipped()) return;
    if (!v2()) GTEST_SKIP() << "a user has no limits to give under cgroup v1";
    if (run({"id", "-u", "user"}).out != "1000\n") GTEST_SKIP() << "no user of that name to be";
    ASSERT_EQ(run({"systemctl", "start", "user@1000.service"}).exit_code, 0);
    auto spec = default_spec(bundle_, {"/bin/sh", "-c", "sleep 1000"});
    spec.linux->cgroups_path = ":p:" + bundle_.name();
    spec.linux->namespaces.push_back({.type = spec::NamespaceType::kUser, .path = "", .extra = {}});
    spec.linux->uid_mappings = {{.container_id = 0, .host_id = 1000, .size = 1, .extra = {}}};
    spec.linux->gid_mappings = spec.linux->uid_mappings;
    spec.mounts[2].options = {"newinstance", "ptmxmode=0666", "mode=0620"};  // the group 5 is not there
    spec.linux->resources.emplace().memory.emplace().limit = 64 << 20;
    spec.linux->resources->pids.emplace().limit = 20;
    write_config(spec);
    ASSERT_EQ(run({"chown", "-R", "1000:1000", bundle_.path()}).exit_code, 0);
  }
  void TearDown() override {
    if (IsSkipped()) return;
    as_user(user_oci("delete --force " + bundle_.name()));
    EXPECT_TRUE(eventually([this] { return !os::exists(user_folder()); }));
    EXPECT_EQ(as_user("systemctl --user list-units --all --plain --no-legend " + unit()).out, "");
    run({"systemctl", "stop", "user@1000.service", "user-1000.slice"});
    SystemdTest::TearDown();
  }
  /// In a service of the user's manager, as what a user starts is.
  os::RunOutput as_user(const std::string& line) {
    return run({"setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "env", "XDG_RUNTIME_DIR=/run/user/1000",
                "systemd-run", "--user", "--quiet", "--pipe", "--wait", "--collect", "sh", "-c", line});
  }
  std::string user_oci(const std::string& words) { return program() + " --systemd-cgroup " + words; }
  std::string user_folder() {
    return "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/user.slice/" + unit();
  }
};

TEST_F(UserSystemdTest, AUsersContainerIsAScopeOfTheUsersManager) {
  // A child that stays would be ended with the service: this one waits for it inside.
  const auto output = as_user(
      "cd " + bundle_.path() + " && " + user_oci("run --detach " + bundle_.name()) +
      " > /dev/null && systemctl --user show -P MemoryMax -P TasksMax " + unit() + " && cat " + user_folder() +
      "/memory.max " + user_folder() + "/pids.max && " + user_oci("update --memory 50331648 " + bundle_.name()) +
      " && systemctl --user show -P MemoryMax " + unit() + " && cat " + user_folder() + "/memory.max");
  EXPECT_EQ(output.exit_code, 0) << output.err;
  EXPECT_EQ(output.out, "67108864\n20\n67108864\n20\n50331648\n50331648\n") << output.err;
  EXPECT_EQ(as_user(user_oci("delete --force " + bundle_.name())).exit_code, 0);
}

}  // namespace
}  // namespace berth::oci
