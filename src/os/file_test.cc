#include "os/file.h"

#include <gtest/gtest.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/ids.h"

namespace berth::os {
namespace {

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = "/tmp/berth-test-" + random_hex(6);
    ASSERT_TRUE(make_dirs(dir_ + "/a/b"));
  }
  void TearDown() override {
    EXPECT_TRUE(remove_tree(dir_));
    EXPECT_FALSE(exists(dir_));
  }
  std::string dir_;
};

TEST_F(FileTest, AtomicWriteReplacesAndLeavesNoTemporary) {
  ASSERT_TRUE(write_file_atomic(dir_ + "/f", "one", 0600, Sync::kYes));
  ASSERT_TRUE(write_file_atomic(dir_ + "/f", "two"));
  EXPECT_EQ(read_file(dir_ + "/f", 100).value(), "two");
  EXPECT_EQ(list_dir(dir_).value(), (std::vector<std::string>{"a", "f"}));
  EXPECT_EQ(write_file_atomic(dir_ + "/no/f", "x").error().code(), Code::kNotFound);
}

TEST_F(FileTest, ReadIsBounded) {
  ASSERT_TRUE(write_file_atomic(dir_ + "/f", std::string(5000, 'x')));
  EXPECT_EQ(read_file(dir_ + "/f", 5000).value().size(), 5000U);
  EXPECT_EQ(read_file(dir_ + "/f", 4999).error().code(), Code::kExhausted);
  EXPECT_EQ(read_file("/dev/zero", 100'000).error().code(), Code::kExhausted);
}

TEST_F(FileTest, OpenInRootFollowsLinksInsideTheRootOnly) {
  ASSERT_EQ(::symlink("/etc/passwd", (dir_ + "/a/escape").c_str()), 0);
  ASSERT_TRUE(make_dirs(dir_ + "/a/etc"));
  ASSERT_TRUE(write_file_atomic(dir_ + "/a/etc/passwd", "inside"));
  auto root = open_file(dir_ + "/a", O_PATH | O_DIRECTORY);
  ASSERT_TRUE(root);
  auto fd = open_in(root->get(), "escape", O_RDONLY, RESOLVE_IN_ROOT);
  ASSERT_TRUE(fd);
  EXPECT_EQ(read_all(fd->get(), 100).value(), "inside");
  EXPECT_EQ(open_in(root->get(), "../../etc/passwd", O_RDONLY, RESOLVE_BENEATH).error().errno_value(), EXDEV);
}

TEST_F(FileTest, RemoveTreeDoesNotFollowLinks) {
  ASSERT_TRUE(write_file_atomic(dir_ + "/a/keep", "x"));
  ASSERT_TRUE(make_dirs(dir_ + "/gone/deep/er"));
  ASSERT_EQ(::symlink((dir_ + "/a").c_str(), (dir_ + "/gone/link").c_str()), 0);
  EXPECT_TRUE(remove_tree(dir_ + "/gone"));
  EXPECT_TRUE(remove_tree(dir_ + "/gone"));
  EXPECT_TRUE(exists(dir_ + "/a/keep"));
}

TEST_F(FileTest, MakeDirsNamesTheFileInTheWay) {
  ASSERT_TRUE(write_file_atomic(dir_ + "/f", "x"));
  EXPECT_TRUE(make_dirs(dir_ + "/x/y/z/"));
  EXPECT_TRUE(make_dirs(dir_ + "/x/y/z"));
  EXPECT_EQ(make_dirs(dir_ + "/f").error().errno_value(), ENOTDIR);
  EXPECT_FALSE(make_dirs(dir_ + "/f/g"));
}

}  // namespace
}  // namespace berth::os
