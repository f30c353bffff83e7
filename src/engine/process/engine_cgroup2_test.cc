#include <gmock/gmock.h>

#include <chrono>
#include <csignal>

#include "base/strings.h"
#include "engine/process/test_container.h"

/// Containers under cgroup v2 alone; tests/vm/run_guest brings such a kernel.
namespace berth::engine::process {
namespace {

using testing::EngineTest;
using ::testing::HasSubstr;

class Cgroup2Test : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    if (!os::exists("/sys/fs/cgroup/cgroup.controllers")) GTEST_SKIP() << "no pure cgroup v2 here";
  }
  void TearDown() override {
    EngineTest::TearDown();
    EXPECT_FALSE(os::exists("/sys/fs/cgroup/" + bundle_.name()));
  }
  std::string read(const std::string& file) {
    const auto text = os::read_file("/sys/fs/cgroup/" + bundle_.name() + "/" + file, 1U << 16);
    return text ? std::string(trim(*text)) : text.error().text();
  }
  std::unique_ptr<ProcessContainer> started(const spec::Spec& spec) {
    auto container = create(spec);
    if (container == nullptr) return nullptr;
    EXPECT_TRUE(container->start().has_value());
    return container;
  }
};

TEST_F(Cgroup2Test, LimitsAreWrittenAndUpdated) {
  auto spec = script_spec("sleep 1000");
  auto& resources = spec.linux->resources.emplace();
  resources.memory.emplace().limit = 64 << 20;
  resources.memory->swap = 96 << 20;  // with memory, as the specification has it; v2 counts it apart
  resources.memory->reservation = 32 << 20;
  resources.cpu.emplace().shares = 1024;
  resources.cpu->quota = 50'000;
  resources.cpu->period = 100'000;
  resources.cpu->cpus = "0";
  resources.pids.emplace().limit = 20;
  resources.hugepage_limits.push_back({.page_size = "2MB", .limit = 0, .extra = {}});
  resources.unified = {{"memory.high", "50331648"}};
  auto container = create(spec);
  ASSERT_NE(container, nullptr);
  EXPECT_EQ(read("memory.max"), "67108864");
  EXPECT_EQ(read("memory.swap.max"), "33554432");
  EXPECT_EQ(read("memory.low"), "33554432");
  EXPECT_EQ(read("memory.high"), "50331648");
  EXPECT_EQ(read("cpu.max"), "50000 100000");
  // 1024 of v1's 2..262144 in v2's 1..10000.
  EXPECT_EQ(read("cpu.weight"), "39");
  EXPECT_EQ(read("cpuset.cpus"), "0");
  EXPECT_EQ(read("pids.max"), "20");
  EXPECT_EQ(read("hugetlb.2MB.max"), "0");
  EXPECT_EQ(read("cgroup.procs"), std::to_string(container->init().pid)) << "cloned into it, never moved";
  spec::Resources update;
  update.memory.emplace().limit = 48 << 20;
  update.pids.emplace().limit = -1;
  update.cpu.emplace().quota = -1;
  ASSERT_TRUE(container->update(update).has_value());
  EXPECT_EQ(read("memory.max"), "50331648");
  EXPECT_EQ(read("pids.max"), "max");
  EXPECT_EQ(read("cpu.max"), "max 100000");
  finish(*container);
}

TEST_F(Cgroup2Test, DeviceRulesHoldAndCanBeReplaced) {
  auto spec = script_spec("");
  spec.process->args.back() =
      "mknod /dev/mem2 c 1 1 && echo made; dd if=/dev/mem2 of=/dev/null bs=1 count=1; echo x > /dev/null && echo null; "
      "for i in $(seq 200); do (: < /dev/serial) 2> /dev/null && echo serial && break; sleep 0.01; done";
  spec::Device serial;  // the guest's console
  serial.path = "/dev/serial";
  serial.type = "c";
  serial.major = 4;
  serial.minor = 64;
  spec.linux->devices.push_back(serial);
  auto& resources = spec.linux->resources.emplace();
  resources.devices.push_back({.allow = false, .type = "", .major = {}, .minor = {}, .access = "rwm", .extra = {}});
  auto pipe = os::make_pipe();
  ASSERT_TRUE(pipe.has_value());
  CreateRequest request;
  request.id = bundle_.name();
  request.bundle = bundle_.path();
  request.spec = spec;
  request.stdio = {-1, pipe->write.get(), pipe->write.get()};
  auto container = engine_->create_process(std::move(request));
  ASSERT_TRUE(container.has_value()) << container.error().text();
  pipe->write.reset();
  ASSERT_TRUE((*container)->start().has_value());
  spec::Resources update;
  update.devices = resources.devices;
  update.devices.push_back({.allow = true, .type = "c", .major = 4, .minor = 64, .access = "r", .extra = {}});
  ASSERT_TRUE((*container)->update(update).has_value());
  const std::string out = os::read_all(pipe->read.get(), 1U << 20).value_or("");
  EXPECT_THAT(out, HasSubstr("made\n"));
  EXPECT_THAT(out, HasSubstr("Operation not permitted"));
  EXPECT_THAT(out, HasSubstr("null\n"));
  EXPECT_THAT(out, HasSubstr("serial\n"));
  finish(**container);
}

TEST_F(Cgroup2Test, PausedProcessesStandStill) {
  auto container = started(script_spec("while :; do :; done"));
  ASSERT_NE(container, nullptr);
  ASSERT_TRUE(container->pause().has_value());
  EXPECT_TRUE(container->paused().value_or(false));
  EXPECT_THAT(read("cgroup.events"), HasSubstr("frozen 1"));
  const auto before = container->stats()->cpu_usage_ns;
  ::usleep(50'000);
  EXPECT_EQ(container->stats()->cpu_usage_ns, before);
  ASSERT_TRUE(container->resume().has_value());
  while (container->stats()->cpu_usage_ns == before) ::usleep(1000);
  finish(*container);
}

// Two that want one processor: each waits half of the time, and there is always one that does not.
TEST_F(Cgroup2Test, PressureIsMeasured) {
  if (!os::exists("/proc/pressure/cpu")) GTEST_SKIP() << "this kernel counts no pressure";
  auto spec = script_spec("while :; do :; done & while :; do :; done");
  spec.linux->resources.emplace().cpu.emplace().cpus = "0";
  spec.linux->resources->memory.emplace().limit = 64 << 20;
  spec.linux->resources->memory->swap = 96 << 20;
  auto container = started(spec);
  ASSERT_NE(container, nullptr);
  const auto waited = [&container] { return container->stats()->cpu_pressure.value_or(os::Pressure{}).some.total_us; };
  for (int i = 0; i < 10'000 && waited() < 100'000; ++i) ::usleep(1000);
  const auto stats = container->stats();
  ASSERT_TRUE(stats->cpu_pressure.has_value());
  EXPECT_GE(stats->cpu_pressure->some.total_us, 100'000U);
  EXPECT_LT(stats->cpu_pressure->full.total_us, stats->cpu_pressure->some.total_us);
  EXPECT_TRUE(stats->memory_pressure.has_value());
  EXPECT_TRUE(stats->io_pressure.has_value());
  EXPECT_EQ(stats->swap_limit_bytes, 32U << 20U);
  finish(*container);
}

TEST_F(Cgroup2Test, KillAllLeavesNothingThatForks) {
  auto spec = script_spec("while :; do (sleep 100 &) ; done");
  spec.linux->resources.emplace().pids.emplace().limit = 200;
  auto container = started(spec);
  ASSERT_NE(container, nullptr);
  while (container->pids()->size() < 50) ::usleep(1000);
  ASSERT_TRUE(container->kill(SIGKILL, true).has_value());
  EXPECT_EQ(os::reap_pidfd(container->init().pidfd.get()).value_or(-1), 128 + SIGKILL);
  for (int i = 0; i < 5000 && !container->pids()->empty(); ++i) ::usleep(1000);
  EXPECT_THAT(*container->pids(), ::testing::IsEmpty());
  EXPECT_TRUE(container->remove().has_value());
}

TEST_F(Cgroup2Test, ItsOwnPartAloneIsSeenInside) {
  EXPECT_EQ(run("cat /proc/self/cgroup").out, "0::/\n");
  const auto out = run("cat /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/x").out;
  EXPECT_THAT(out, HasSubstr("1\n"));
  EXPECT_THAT(out, HasSubstr("Read-only file system"));
}

TEST_F(Cgroup2Test, ExecsHaveASubCgroupThatIsKilledWhole) {
  auto container = started(script_spec("sleep 1000"));
  ASSERT_NE(container, nullptr);
  ExecRequest request;
  request.process = *script_spec("sleep 1000 & sleep 1000").process;
  request.sub_cgroup = "exec-1";
  const auto process = container->exec(request);
  ASSERT_TRUE(process.has_value()) << process.error().text();
  while (split(read("exec-1/cgroup.procs"), '\n').size() < 2) ::usleep(1000);
  EXPECT_EQ(container->end_exec("exec-1", true).has_value(), true);
  EXPECT_EQ(os::reap_pidfd(process->pidfd.get()).value_or(-1), 128 + SIGKILL);
  bool gone = false;
  for (int i = 0; i < 5000 && !gone; ++i, ::usleep(1000)) gone = container->end_exec("exec-1", true).value_or(false);
  EXPECT_TRUE(gone);
  EXPECT_TRUE(container->alive());
  finish(*container);
}

TEST_F(Cgroup2Test, CgroupsMadeInsideGoToo) {
  auto spec = script_spec("mkdir -p /sys/fs/cgroup/a/b; echo made > /tmp/made; sleep 1000");
  spec.mounts.back().options = {"nosuid", "noexec", "nodev"};
  auto container = started(spec);
  ASSERT_NE(container, nullptr);
  while (!os::exists(bundle_.path() + "/rootfs/tmp/made")) ::usleep(1000);
  EXPECT_EQ(read("a/b/cgroup.procs"), "");
  finish(*container);
}

TEST_F(Cgroup2Test, WhatV2DoesNotHaveIsNamed) {
  auto spec = script_spec("true");
  spec.linux->resources.emplace().unified = {{"no.such", "1"}};
  EXPECT_THAT(refused(spec).text(), HasSubstr("no.such"));
}

}  // namespace
}  // namespace berth::engine::process
