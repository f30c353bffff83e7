#include "shim/tree_tar.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/ids.h"
#include "os/file.h"
#include "os/spawn.h"

namespace berth::shim {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class TreeTarTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(os::make_dirs(tree("")).has_value()); }
  void TearDown() override { EXPECT_TRUE(os::remove_tree(dir_).has_value()); }
  [[nodiscard]] std::string tree(const std::string& path) const { return dir_ + "/tree/" + path; }
  [[nodiscard]] std::string archive() const { return dir_ + "/archive.tar"; }
  void put(const std::string& path, const std::string& text) {
    ASSERT_TRUE(os::write_file_atomic(tree(path), text).has_value());
  }
  Result<> write(TreeKind kind, std::vector<std::string>* deleted = nullptr) {
    BERTH_ASSIGN(const UniqueFd root, os::open_file(tree(""), O_RDONLY | O_DIRECTORY), "test");
    BERTH_ASSIGN(const UniqueFd out, os::open_file(archive(), O_WRONLY | O_CREAT | O_TRUNC), "test");
    return write_tree_tar(root.get(), kind, out.get(), deleted);
  }
  std::string tar(std::vector<std::string> words) {
    os::RunOptions run;
    run.spawn.argv = {"tar"};
    run.spawn.argv.insert(run.spawn.argv.end(), words.begin(), words.end());
    run.spawn.env = {"PATH=/usr/bin:/bin"};
    const auto ran = os::run(std::move(run));
    EXPECT_TRUE(ran && ran->exit_code == 0) << (ran ? ran->err : ran.error().text());
    return ran ? ran->out : "";
  }

  std::string dir_ = "/tmp/berth-tree-" + random_hex(8);
};

TEST_F(TreeTarTest, AnotherTarMakesTheSameOfIt) {
  const std::string deep = std::string(120, 'd') + "/" + std::string(120, 'e');
  ASSERT_TRUE(os::make_dirs(tree(deep)).has_value());
  put("file", std::string(1000, 'x'));
  put(deep + "/long", "far away");
  put("empty", "");
  ASSERT_EQ(::link(tree("file").c_str(), tree("other").c_str()), 0);
  ASSERT_EQ(::symlink("/etc/passwd", tree("link").c_str()), 0);
  ASSERT_EQ(::mkfifo(tree("fifo").c_str(), 0600), 0);
  ASSERT_EQ(::mknod(tree("null").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  ASSERT_EQ(::chown(tree("file").c_str(), 3'000'000, 4'000'000), 0);
  ASSERT_EQ(::chmod(tree("file").c_str(), 04711), 0);
  const timespec times[2] = {{5, 0}, {-5, 250'000'000}};
  ASSERT_EQ(::utimensat(AT_FDCWD, tree("file").c_str(), times, 0), 0);
  const auto done = write(TreeKind::kPlain);
  ASSERT_TRUE(done.has_value()) << done.error().text();

  ASSERT_TRUE(os::make_dirs(dir_ + "/again").has_value());
  tar({"-C", dir_ + "/again", "-xpf", archive(), "--numeric-owner"});
  const auto again = [this](const std::string& path) { return dir_ + "/again/" + path; };
  EXPECT_EQ(os::read_file(again("file"), 4096).value_or(""), std::string(1000, 'x'));
  EXPECT_EQ(os::read_file(again(deep + "/long"), 4096).value_or(""), "far away");
  struct stat file{};
  struct stat other{};
  ASSERT_EQ(::stat(again("file").c_str(), &file), 0);
  ASSERT_EQ(::stat(again("other").c_str(), &other), 0);
  EXPECT_EQ(file.st_ino, other.st_ino);
  EXPECT_EQ(file.st_uid, 3'000'000U);
  EXPECT_EQ(file.st_gid, 4'000'000U);
  EXPECT_EQ(file.st_mode & 07777, 04711U);
  EXPECT_EQ(file.st_mtim.tv_sec, -5);
  EXPECT_EQ(file.st_mtim.tv_nsec, 250'000'000);
  EXPECT_THAT(tar({"-tvf", archive()}), AllOf(HasSubstr("link -> /etc/passwd"), HasSubstr("1,3"), HasSubstr("fifo")));
}

TEST_F(TreeTarTest, OfALayerWhatItHidesIsSaid) {
  ASSERT_TRUE(os::make_dirs(tree("etc/new")).has_value());
  ASSERT_EQ(::mknod(tree("gone").c_str(), S_IFCHR, makedev(0, 0)), 0);
  ASSERT_EQ(::mknod(tree("etc/group").c_str(), S_IFCHR, makedev(0, 0)), 0);
  ASSERT_EQ(::setxattr(tree("etc/new").c_str(), "trusted.overlay.opaque", "y", 1, 0), 0);
  std::vector<std::string> deleted;
  ASSERT_TRUE(write(TreeKind::kLayer, &deleted).has_value());
  EXPECT_THAT(deleted, ElementsAre("/etc/group", "/gone"));
  EXPECT_EQ(tar({"-tf", archive()}), "./\netc/\netc/.wh.group\netc/new/\netc/new/.wh..wh..opq\n.wh.gone\n");
  ASSERT_TRUE(write(TreeKind::kPlain, &deleted).has_value());
  EXPECT_THAT(tar({"-tf", archive()}), Not(HasSubstr(".wh.")));
}

TEST_F(TreeTarTest, WhatALayerAloneDoesNotTellIsRefused) {
  ASSERT_TRUE(os::make_dirs(tree("moved")).has_value());
  ASSERT_EQ(::setxattr(tree("moved").c_str(), "trusted.overlay.redirect", "from", 4, 0), 0);
  auto done = write(TreeKind::kLayer);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), Code::kUnsupported);
  EXPECT_THAT(done.error().text(), HasSubstr("redirect_dir"));
  ASSERT_EQ(::removexattr(tree("moved").c_str(), "trusted.overlay.redirect"), 0);
  ASSERT_TRUE(os::write_file_atomic(tree("moved/.wh.name"), "").has_value());
  done = write(TreeKind::kPlain);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), Code::kUnsupported);
  EXPECT_THAT(done.error().text(), HasSubstr("moved/.wh.name"));
}

TEST_F(TreeTarTest, ATreeTooDeepIsRefused) {
  UniqueFd at(::open(tree("").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; i < 505; ++i) {
    ASSERT_EQ(::mkdirat(at.get(), "d", 0700), 0);
    at.reset(::openat(at.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  at.reset();
  const auto done = write(TreeKind::kLayer);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), Code::kExhausted);
}

}  // namespace
}  // namespace berth::shim
