#include "os/root_path.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "os/file.h"

namespace berth::os {
namespace {

class RootPathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/berth-test-root-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    path_ = name;
    auto fd = open_file(path_, O_PATH | O_DIRECTORY);
    ASSERT_TRUE(fd.has_value());
    root_ = std::move(*fd);
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(path_).has_value()); }
  void link(const std::string& target, const std::string& name) {
    ASSERT_EQ(::symlink(target.c_str(), (path_ + "/" + name).c_str()), 0);
  }
  std::string path_;
  UniqueFd root_;
};

TEST_F(RootPathTest, MakesWhatIsMissing) {
  EXPECT_TRUE(make_dir_in_root(root_.get(), "/a").has_value());
  EXPECT_TRUE(make_dir_in_root(root_.get(), "b/c//d/").has_value());
  EXPECT_TRUE(make_file_in_root(root_.get(), "/e/f/g").has_value());
  EXPECT_TRUE(exists(path_ + "/b/c/d"));
  struct stat st{};
  ASSERT_EQ(::stat((path_ + "/e/f/g").c_str(), &st), 0);
  EXPECT_TRUE(S_ISREG(st.st_mode));
  EXPECT_TRUE(make_dir_in_root(root_.get(), "/b/c/d").has_value()) << "again";
}

TEST_F(RootPathTest, LinksAndDotsStayInside) {
  link("/outside/of/it", "absolute");
  link("../../../../../..", "up");
  link("missing/place", "dangling");
  EXPECT_TRUE(make_dir_in_root(root_.get(), "/absolute/x").has_value());
  EXPECT_TRUE(exists(path_ + "/outside/of/it/x"));
  EXPECT_FALSE(exists("/outside"));
  EXPECT_TRUE(make_dir_in_root(root_.get(), "/up/berth-test-up").has_value());
  EXPECT_TRUE(exists(path_ + "/berth-test-up"));
  EXPECT_TRUE(make_file_in_root(root_.get(), "/dangling").has_value());
  EXPECT_TRUE(exists(path_ + "/missing/place"));
  EXPECT_TRUE(make_dir_in_root(root_.get(), "/../../berth-test-dots").has_value());
  EXPECT_TRUE(exists(path_ + "/berth-test-dots"));
}

TEST_F(RootPathTest, CirclesAndFilesOnTheWayAreErrors) {
  link("b", "a");
  link("a", "b");
  EXPECT_FALSE(make_dir_in_root(root_.get(), "/a/x").has_value());
  EXPECT_FALSE(make_file_in_root(root_.get(), "/a").has_value());
  ASSERT_TRUE(write_file_atomic(path_ + "/file", "").has_value());
  EXPECT_FALSE(make_dir_in_root(root_.get(), "/file/x").has_value());
  EXPECT_FALSE(make_dir_in_root(root_.get(), "/file").has_value());
}

TEST_F(RootPathTest, SplitsPaths) {
  std::string parent;
  std::string name;
  split_parent("/a/b/", parent, name);
  EXPECT_EQ(parent + "|" + name, "/a|b");
  split_parent("x", parent, name);
  EXPECT_EQ(parent + "|" + name, "|x");
  split_parent("/", parent, name);
  EXPECT_EQ(parent + "|" + name, "|");
}

TEST(VerifiedProc, IsOneAndStaysInside) {
  const auto proc = open_verified_proc();
  ASSERT_TRUE(proc.has_value());
  EXPECT_TRUE(write_proc(proc->get(), "self/oom_score_adj", "500").has_value());
  EXPECT_FALSE(write_proc(proc->get(), "self/cwd/berth-test", "x").has_value()) << "a magic link";
  EXPECT_FALSE(write_proc(proc->get(), "../etc/passwd", "x").has_value());
}

}  // namespace
}  // namespace berth::os
