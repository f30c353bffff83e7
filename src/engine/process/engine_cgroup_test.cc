#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <csignal>

#include "base/strings.h"
#include "engine/process/device_filter.h"
#include "engine/process/test_container.h"
#include "os/bpf.h"

namespace berth::engine::process {
namespace {

using testing::EngineTest;
using ::testing::HasSubstr;

/// Whatever the layout.
class AnyCgroupTest : public EngineTest {};

class CgroupTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    if (!os::exists("/sys/fs/cgroup/memory/cgroup.procs")) GTEST_SKIP() << "no cgroup v1 memory hierarchy here";
  }
  std::string read(const char* hierarchy, const char* file) {
    const auto text =
        os::read_file("/sys/fs/cgroup/" + std::string(hierarchy) + "/" + bundle_.name() + "/" + file, 1U << 16);
    return text ? std::string(trim(*text)) : text.error().text();
  }
};

TEST_F(CgroupTest, LimitsAreWrittenAndUpdated) {
  auto spec = script_spec("sleep 1000");
  auto& resources = spec.linux->resources.emplace();
  resources.memory.emplace().limit = 64 << 20;
  resources.cpu.emplace().shares = 512;
  resources.cpu->quota = 50'000;
  resources.cpu->period = 100'000;
  resources.cpu->cpus = "0";
  resources.pids.emplace().limit = 20;
  resources.hugepage_limits.push_back({.page_size = "2MB", .limit = 0, .extra = {}});
  auto container = create(spec);
  ASSERT_NE(container, nullptr);
  EXPECT_EQ(read("memory", "memory.limit_in_bytes"), "67108864");
  EXPECT_EQ(read("cpu", "cpu.shares"), "512");
  EXPECT_EQ(read("cpu", "cpu.cfs_quota_us"), "50000");
  EXPECT_EQ(read("cpuset", "cpuset.cpus"), "0");
  EXPECT_EQ(read("pids", "pids.max"), "20");
  for (const char* hierarchy :
       {"memory", "cpu", "cpuacct", "cpuset", "pids", "freezer", "devices", "blkio", "systemd"}) {
    EXPECT_EQ(read(hierarchy, "cgroup.procs"), std::to_string(container->init().pid)) << hierarchy;
  }
  spec::Resources update;
  update.memory.emplace().limit = 32 << 20;
  update.pids.emplace().limit = -1;
  update.cpu.emplace().quota = -1;
  ASSERT_TRUE(container->update(update).has_value());
  EXPECT_EQ(read("memory", "memory.limit_in_bytes"), "33554432");
  EXPECT_EQ(read("pids", "pids.max"), "max");
  EXPECT_EQ(read("cpu", "cpu.cfs_quota_us"), "-1");
  finish(*container);
}

TEST_F(AnyCgroupTest, TheMemoryLimitKillsAndIsTold) {
  auto spec = script_spec("dd if=/dev/zero of=/dev/null bs=200M count=1; sleep 1000");
  spec.process->args = {"/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"};
  spec.linux->resources.emplace().memory.emplace().limit = 16 << 20;
  auto container = create(spec);
  ASSERT_NE(container, nullptr);
  EXPECT_FALSE(container->oom_killed().value_or(true));
  ASSERT_TRUE(container->start().has_value());
  EXPECT_EQ(os::reap_pidfd(container->init().pidfd.get()).value_or(-1), 128 + SIGKILL);
  EXPECT_TRUE(container->oom_killed().value_or(false));
  EXPECT_EQ(container->stats()->oom_kills, 1U);
  EXPECT_TRUE(container->remove().has_value());
}

TEST_F(AnyCgroupTest, ThePidsLimitHolds) {
  auto spec = script_spec("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 100 & done; echo all");
  spec.linux->resources.emplace().pids.emplace().limit = 5;
  EXPECT_THAT(run(spec).out, HasSubstr("can't fork"));
}

TEST_F(CgroupTest, DeviceRulesHold) {
  auto spec = script_spec(
      "mknod /dev/mem2 c 1 1 && echo made; dd if=/dev/mem2 of=/dev/null bs=1 count=1; echo x > /dev/null && echo null");
  auto& resources = spec.linux->resources.emplace();
  resources.devices.push_back({.allow = false, .type = "", .major = {}, .minor = {}, .access = "rwm", .extra = {}});
  const auto out = run(spec).out;
  EXPECT_THAT(out, HasSubstr("made\n"));
  EXPECT_THAT(out, HasSubstr("Operation not permitted"));
  EXPECT_THAT(out, HasSubstr("null\n"));
}

TEST_F(AnyCgroupTest, StatsHaveNumbers) {
  auto spec = script_spec("while :; do :; done");
  spec.linux->resources.emplace().memory.emplace().limit = 64 << 20;
  auto container = create(spec);
  ASSERT_NE(container, nullptr);
  ASSERT_TRUE(container->start().has_value());
  while (container->stats()->cpu_usage_ns < 10'000'000) ::usleep(1000);
  const auto stats = container->stats();
  EXPECT_GT(stats->timestamp_ns, 0);
  EXPECT_GT(stats->memory_usage_bytes, 0U);
  EXPECT_EQ(stats->memory_limit_bytes, 64U << 20);
  EXPECT_LE(stats->memory_working_set_bytes, stats->memory_usage_bytes);
  EXPECT_EQ(stats->pids, 1U);
  EXPECT_EQ(stats->oom_kills, 0U);
  finish(*container);
}

TEST_F(AnyCgroupTest, ANonEmptyCgroupIsRefused) {
  auto container = create(script_spec("sleep 1000"));
  ASSERT_NE(container, nullptr);
  EXPECT_THAT(refused(script_spec("true")).text(), HasSubstr("is not empty"));
  EXPECT_TRUE(container->alive());
  finish(*container);
}

TEST_F(CgroupTest, CgroupsMadeInsideGoToo) {
  auto spec = script_spec(
      "mkdir -p /sys/fs/cgroup/memory/a/b /sys/fs/cgroup/pids/c && echo made; echo $$ > "
      "/sys/fs/cgroup/pids/c/cgroup.procs; sleep 1000");
  spec.mounts.back().options = {"nosuid", "noexec", "nodev"};
  spec.process->args.back() =
      "mkdir -p /sys/fs/cgroup/memory/a/b /sys/fs/cgroup/pids/c; echo made > /tmp/made; sleep 1000";
  auto container = create(spec);
  ASSERT_NE(container, nullptr);
  ASSERT_TRUE(container->start().has_value());
  while (!os::exists(bundle_.path() + "/rootfs/tmp/made")) ::usleep(1000);
  EXPECT_EQ(read("memory", "a/b/cgroup.procs"), "");
  finish(*container);
}

TEST_F(AnyCgroupTest, RelativePathsStartAtTheCallersOwn) {
  auto spec = script_spec("true");
  spec.linux->cgroups_path = "";
  auto container = create(spec);
  ASSERT_NE(container, nullptr);
  EXPECT_THAT(container->cgroup_path(), HasSubstr("/" + bundle_.name()));
  auto pids = container->pids();
  EXPECT_EQ(pids.value_or(std::vector<pid_t>{}), std::vector<pid_t>{container->init().pid});
  finish(*container);
}

TEST_F(AnyCgroupTest, NothingIsLeftAfterAFailedCreation) {
  auto spec = script_spec("true");
  spec.linux->resources.emplace().cpu.emplace().cpus = "nonsense";
  const Error error = refused(spec);
  EXPECT_EQ(error.code(), Code::kInvalid);
  EXPECT_THAT(error.text(), HasSubstr("set cpuset.cpus to \"nonsense\""));
}

/// The v2 program on a cgroup of v2, or of the hybrid layout's v2 hierarchy, which takes programs though it has no
/// controllers.
TEST(DeviceProgram, DecidesAsTheRulesDo) {
  const std::string unified =
      os::exists("/sys/fs/cgroup/cgroup.controllers") ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
  const std::string group = unified + "/" + testing::unique_name();
  if (!os::exists(unified + "/cgroup.procs") || ::mkdir(group.c_str(), 0755) != 0)
    GTEST_SKIP() << "no v2 hierarchy here";
  auto dir = os::open_file(group, O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(dir.has_value());
  const auto rule = [](bool allow, const char* type, std::int64_t major, std::int64_t minor, const char* access) {
    return spec::DeviceRule{
        .allow = allow, .type = type, .major = major, .minor = minor, .access = access, .extra = {}};
  };
  const auto opens = [&](const char* path, int flags) {
    os::CloneOptions options;
    options.cgroup_fd = dir->get();
    auto child = os::clone_process(options);
    EXPECT_TRUE(child.has_value());
    if (child->pid == 0) ::_exit(::open(path, flags | O_CLOEXEC) >= 0 ? 0 : errno);
    return os::reap_pidfd(child->pidfd.get()).value_or(-1);
  };
  const auto set = [&](const std::vector<spec::DeviceRule>& rules, bool replace) {
    const auto done = os::attach_device_program(dir->get(), device_program(rules), replace);
    ASSERT_TRUE(done.has_value()) << done.error().text();
  };
  set(with_default_rules({rule(false, "a", -1, -1, "rwm")}), false);
  EXPECT_EQ(opens("/dev/null", O_RDWR), 0);
  EXPECT_EQ(opens("/dev/urandom", O_RDONLY), 0);
  EXPECT_EQ(opens("/dev/kmsg", O_RDONLY), EPERM);
  set({rule(false, "", -1, -1, ""), rule(true, "c", 1, 11, "r")}, true);
  EXPECT_EQ(opens("/dev/kmsg", O_RDONLY), 0);
  EXPECT_EQ(opens("/dev/kmsg", O_RDWR), EPERM) << "an allow must cover the whole access";
  EXPECT_EQ(opens("/dev/null", O_RDONLY), EPERM);
  set({rule(false, "c", 1, -1, "w")}, true);
  EXPECT_EQ(opens("/dev/null", O_RDONLY), 0) << "what no rule names is allowed";
  EXPECT_EQ(opens("/dev/null", O_RDWR), EPERM) << "a deny need only touch it";
  dir->reset();
  EXPECT_EQ(::rmdir(group.c_str()), 0);
}

}  // namespace
}  // namespace berth::engine::process
