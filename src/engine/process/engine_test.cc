#include <gmock/gmock.h>

#include <fstream>

#include "engine/process/test_container.h"

namespace berth::engine::process {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::Bundle;
using testing::default_spec;
using testing::run_container;
using testing::run_script;

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

class EngineTest : public ::testing::Test {
 protected:
  void SetUp() override { mounts_before_ = lines_of("/proc/self/mountinfo"); }
  void TearDown() override {
    EXPECT_EQ(lines_of("/proc/self/mountinfo"), mounts_before_);
    for (const char* hierarchy : {"memory", "pids", "freezer", "cpuset"}) {
      EXPECT_FALSE(os::exists("/sys/fs/cgroup/" + std::string(hierarchy) + "/" + bundle_.name()));
    }
  }
  testing::Outcome run(const std::string& script) { return run_script(*engine_, bundle_, script); }
  testing::Outcome run(spec::Spec spec) { return run_container(*engine_, bundle_, std::move(spec)); }
  spec::Spec script_spec(const std::string& script) { return default_spec(bundle_, {"/bin/sh", "-c", script}); }

  Bundle bundle_;
  std::unique_ptr<ProcessEngine> engine_ = make_process_engine();
  std::vector<std::string> mounts_before_;
};

TEST_F(EngineTest, RunsAProgramAndReportsItsExitCode) {
  const auto outcome = run("echo hello; exit 7");
  EXPECT_EQ(outcome.out, "hello\n");
  EXPECT_EQ(outcome.code, 7);
}

TEST_F(EngineTest, NamespacesAreItsOwn) {
  const auto outcome = run("echo $$; hostname; ls /proc | grep -c '^[0-9]'; cat /proc/net/dev | grep -c :; cat /proc/self/cgroup | grep memory");
  EXPECT_THAT(outcome.out, ::testing::StartsWith("1\nberth-test\n"));
  EXPECT_THAT(outcome.out, HasSubstr("memory:/\n"));
}

TEST_F(EngineTest, NoDescriptorOfTheHostIsLeftInside) {
  const auto outcome = run("for f in /proc/self/fd/*; do echo ${f##*/}; done; ls -l /proc/1/fd");
  EXPECT_THAT(outcome.out, ::testing::StartsWith("0\n1\n2\n"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("socket:")));
}

}  // namespace
}  // namespace berth::engine::process
