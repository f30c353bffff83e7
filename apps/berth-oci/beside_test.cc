#include "beside.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "os/file.h"

namespace berth::oci {
namespace {

class BesideTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"/a/berth-oci", "/a/other-program"}) {
      ASSERT_TRUE(os::make_dirs(folder_ + "/a").has_value());
      ASSERT_TRUE(os::write_file_atomic(folder_ + name, "", 0755).has_value());
    }
    ASSERT_TRUE(os::make_dirs(folder_ + "/links").has_value());
    ASSERT_EQ(::symlink("../a/berth-oci", (folder_ + "/links/runc").c_str()), 0);
  }
  void TearDown() override { ASSERT_TRUE(os::remove_tree(folder_).has_value()); }

  std::string folder_ = "/tmp/berth-test-beside-" + std::to_string(::getpid());
};

TEST_F(BesideTest, ByOwnPath) {
  EXPECT_EQ(program_beside(folder_ + "/a/berth-oci", "other-program"), folder_ + "/a/other-program");
}

TEST_F(BesideTest, ThroughALink) {
  EXPECT_EQ(program_beside(folder_ + "/links/runc", "other-program"), folder_ + "/a/other-program");
}

TEST_F(BesideTest, ByPath) {
  const char* const before = ::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): one thread
  const std::string kept = before == nullptr ? "" : before;
  ASSERT_EQ(::setenv("PATH", ("/does/not/exist::" + folder_ + "/links").c_str(), 1), 0);
  EXPECT_EQ(program_beside("runc", "other-program"), folder_ + "/a/other-program");
  ASSERT_EQ(::setenv("PATH", kept.c_str(), 1), 0);
}

TEST_F(BesideTest, WhatIsNowhereIsLeftToPath) {
  EXPECT_EQ(program_beside(folder_ + "/a/berth-oci", "berth-no-such-program"), "berth-no-such-program");
  EXPECT_EQ(program_beside("", "berth-no-such-program"), "berth-no-such-program");
}

}  // namespace
}  // namespace berth::oci
