#include "os/cgroup_usage.h"

#include <signal.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"
#include "os/file.h"
#include "os/spawn.h"

namespace berth::os {
namespace {

/// A cgroup of the v2 hierarchy that stands beside v1's.
class HybridTest : public testing::Test {
 protected:
  void SetUp() override {
    auto layout = find_cgroups("/sys/fs/cgroup");
    ASSERT_TRUE(layout.has_value());
    layout_ = std::move(*layout);
    if (!layout_.unified.valid()) GTEST_SKIP() << "no cgroup v2 beside v1 here";
    if (!exists("/proc/pressure/cpu")) GTEST_SKIP() << "this kernel counts no pressure";
    if (!make_cgroup(layout_.unified.get(), path_)) GTEST_SKIP() << "no right to make cgroups";
  }
  void TearDown() override {
    if (sleeper_.pid > 0) {
      ::kill(sleeper_.pid, SIGKILL);
      EXPECT_TRUE(wait_exit(sleeper_).has_value());
    }
    if (layout_.unified.valid()) {
      EXPECT_TRUE(remove_cgroup(layout_.unified.get(), path_).has_value());
    }
  }
  [[nodiscard]] CgroupUsage usage() const {
    return cgroup_usage(layout_, std::vector<std::string>(layout_.hierarchies.size(), path_));
  }

  CgroupLayout layout_;
  std::string path_ = "/berth-usage-test-" + std::to_string(::getpid());
  Child sleeper_;
};

TEST_F(HybridTest, PressureIsToldOfThoseWhoAreInTheUnifiedHierarchy) {
  EXPECT_FALSE(usage().cpu_pressure.has_value()) << "of an empty one it would be zeros that nobody measured";
  SpawnOptions options;
  options.argv = {"/bin/sleep", "1000"};
  auto child = spawn(options);
  ASSERT_TRUE(child.has_value());
  sleeper_ = std::move(*child);
  const auto joined =
      write_existing_at(layout_.unified.get(), path_.substr(1) + "/cgroup.procs", std::to_string(sleeper_.pid));
  ASSERT_TRUE(joined.has_value()) << joined.error().text();
  const auto told = usage();
  EXPECT_TRUE(told.cpu_pressure.has_value());
  EXPECT_TRUE(told.memory_pressure.has_value());
  EXPECT_TRUE(told.io_pressure.has_value());
  EXPECT_EQ(told.memory_usage_bytes, 0U) << "v1's hierarchies have no such cgroup";
}

}  // namespace
}  // namespace berth::os
