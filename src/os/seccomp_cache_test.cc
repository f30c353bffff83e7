#include "os/seccomp_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "base/ids.h"
#include "os/file.h"

namespace berth::os {
namespace {

class SeccompCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(make_dirs(dir_, 0700));
    auto fd = open_file(dir_, O_PATH | O_DIRECTORY);
    ASSERT_TRUE(fd);
    fd_ = std::move(*fd);
    policy_.default_action = "SCMP_ACT_ERRNO";
    policy_.rules.push_back({"SCMP_ACT_ALLOW", {}, &names_, {}});
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(dir_)); }

  std::string dir_ = "/tmp/berth-test-" + random_hex(6);
  UniqueFd fd_;
  std::vector<std::string> names_ = {"read", "write"};
  SeccompPolicy policy_;
};

TEST_F(SeccompCacheTest, TheSecondAnswerIsTheFirstOne) {
  const auto plain = compile_seccomp(policy_);
  const auto first = compile_seccomp_cached(policy_, fd_.get());
  ASSERT_TRUE(plain && first);
  ASSERT_EQ(list_dir(dir_)->size(), 1U);
  const auto second = compile_seccomp_cached(policy_, fd_.get());
  ASSERT_TRUE(second);
  EXPECT_EQ(first->instructions, plain->instructions);
  EXPECT_EQ(second->instructions, plain->instructions);
}

TEST_F(SeccompCacheTest, AnotherPolicyIsAnotherEntry) {
  const auto one = compile_seccomp_cached(policy_, fd_.get());
  names_.emplace_back("close");
  const auto two = compile_seccomp_cached(policy_, fd_.get());
  ASSERT_TRUE(one && two);
  EXPECT_NE(one->instructions, two->instructions);
  EXPECT_EQ(list_dir(dir_)->size(), 2U);
}

TEST_F(SeccompCacheTest, ADamagedEntryIsMadeAnew) {
  const auto good = compile_seccomp_cached(policy_, fd_.get());
  ASSERT_TRUE(good);
  const std::string file = dir_ + "/" + list_dir(dir_)->front();
  for (const auto* bytes : {"", "x", "berth seccomp 1 "}) {
    ASSERT_TRUE(write_file_atomic(file, bytes));
    const auto again = compile_seccomp_cached(policy_, fd_.get());
    ASSERT_TRUE(again);
    EXPECT_EQ(again->instructions, good->instructions);
    EXPECT_GT(read_file(file, 1 << 20)->size(), 100U);
  }
}

TEST_F(SeccompCacheTest, NoFolderIsNoError) {
  EXPECT_TRUE(compile_seccomp_cached(policy_, -1));
  ASSERT_TRUE(remove_tree(dir_));
  EXPECT_TRUE(compile_seccomp_cached(policy_, fd_.get()));
}

}  // namespace
}  // namespace berth::os
