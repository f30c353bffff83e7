#include "cri/image_user.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::cri {
namespace {

using testing::ElementsAre;
namespace fs = std::filesystem;

constexpr std::string_view kPasswd =
    "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken "
    "line\nweb:x:1000:1001:Web:/home/web:/bin/sh\nbig:x:99999999999:1::/:\n"
    "123:x:7:8::/odd:/bin/sh\n";
constexpr std::string_view kGroup = "root:x:0:\nweb:x:1001:\nadm:x:4:root,web\nvideo:x:44:web\n:x:9:web\n";

Result<ResolvedUser> resolve(const UserRequest& request) {
  return resolve_user(request, kPasswd, kGroup);
}

TEST(ResolveUser, Rules) {
  const auto root = resolve({});
  ASSERT_TRUE(root);
  EXPECT_EQ(root->ids.uid, 0U);
  EXPECT_EQ(root->home, "/root");
  EXPECT_THAT(root->ids.groups, ElementsAre(0, 4));

  const auto by_name = resolve({.username = "web"});
  ASSERT_TRUE(by_name);
  EXPECT_EQ(by_name->ids.uid, 1000U);
  EXPECT_EQ(by_name->ids.gid, 1001U);
  EXPECT_THAT(by_name->ids.groups, ElementsAre(1001, 4, 44));

  const auto by_number = resolve({.uid = 1000, .gid = 50, .supplemental = {44, 60}});
  ASSERT_TRUE(by_number);
  EXPECT_EQ(by_number->ids.gid, 50U);
  EXPECT_THAT(by_number->ids.groups, ElementsAre(50, 4, 44, 60));

  const auto strict = resolve({.uid = 1000, .supplemental = {60}, .strict_groups = true});
  ASSERT_TRUE(strict);
  EXPECT_THAT(strict->ids.groups, ElementsAre(1001, 60));

  const auto unknown = resolve({.uid = 5555});
  ASSERT_TRUE(unknown);
  EXPECT_EQ(unknown->ids.gid, 0U);
  EXPECT_EQ(unknown->home, "/");

  const auto image = resolve({.image_user = "web:video"});
  ASSERT_TRUE(image);
  EXPECT_EQ(image->ids.gid, 44U);

  const auto image_name_first = resolve({.image_user = "123"});
  ASSERT_TRUE(image_name_first);
  EXPECT_EQ(image_name_first->ids.uid, 7U) << "USER is a name first";
  const auto request_number = resolve({.uid = 123});
  ASSERT_TRUE(request_number);
  EXPECT_EQ(request_number->ids.uid, 123U) << "run_as_user is never a name";
}

TEST(ResolveUser, Refusals) {
  EXPECT_EQ(resolve({.username = "nobody"}).error().code(), Code::kInvalid);
  EXPECT_EQ(resolve({.image_user = "web:nogroup"}).error().code(), Code::kInvalid);
  EXPECT_EQ(resolve({.gid = 1}).error().code(), Code::kInvalid);
  EXPECT_EQ(resolve({.uid = 1, .username = "web"}).error().code(), Code::kInvalid);
  EXPECT_EQ(resolve({.uid = -1}).error().code(), Code::kInvalid);
  EXPECT_EQ(resolve({.uid = 4294967295}).error().code(), Code::kInvalid);
  EXPECT_EQ(resolve({.uid = 0, .supplemental = {-5}}).error().code(), Code::kInvalid);
}

class ImageFiles : public testing::Test {
 protected:
  void SetUp() override {
    base_ = fs::temp_directory_path() / ("berth-image-user-" + std::to_string(::getpid()));
    fs::remove_all(base_);
    for (const char* layer : {"top/etc", "low/etc"}) fs::create_directories(base_ / layer);
    layers_ = {base_ / "top", base_ / "low"};
  }
  void TearDown() override { fs::remove_all(base_); }
  void write(const std::string& path, const std::string& text) { std::ofstream(base_ / path) << text; }
  [[nodiscard]] Result<std::string> passwd() const { return read_image_file(layers_, "etc/passwd", 1024); }

  fs::path base_;
  std::vector<std::string> layers_;
};

TEST_F(ImageFiles, TheTopLayerWins) {
  write("low/etc/passwd", "low");
  EXPECT_EQ(*passwd(), "low");
  write("top/etc/passwd", "top");
  EXPECT_EQ(*passwd(), "top");
}

TEST_F(ImageFiles, LinksStayInTheImage) {
  write("low/etc/accounts", "linked");
  fs::create_symlink("/etc/accounts", base_ / "top/etc/passwd");
  EXPECT_EQ(*passwd(), "linked") << "a link into another layer";
  fs::remove(base_ / "top/etc/passwd");
  // The host's own file must never be seen.
  fs::create_symlink("../../../../../../etc/passwd", base_ / "top/etc/passwd");
  EXPECT_EQ(passwd().error().code(), Code::kInvalid) << "leads to itself, inside the image";
  fs::remove(base_ / "top/etc/passwd");
  fs::remove(base_ / "top/etc");
  fs::create_symlink("/etc", base_ / "top/etc");
  EXPECT_EQ(*passwd(), "");
}

TEST_F(ImageFiles, WhateverIsNoFileIsNoAccountFile) {
  write("low/etc/passwd", "low");
  ASSERT_EQ(::mkfifo((base_ / "top/etc/passwd").c_str(), 0600), 0);
  EXPECT_EQ(*passwd(), "") << "a FIFO hides the file and blocks nobody";
  fs::remove(base_ / "top/etc/passwd");
  if (::mknod((base_ / "top/etc/passwd").c_str(), S_IFCHR | 0600, 0) == 0) {
    EXPECT_EQ(*passwd(), "") << "a whiteout";
    fs::remove(base_ / "top/etc/passwd");
  }
  write("top/etc/passwd", std::string(5000, 'x'));
  EXPECT_EQ(passwd().error().code(), Code::kExhausted);
}

TEST(ImageUser, ForStatus) {
  EXPECT_FALSE(image_user("").uid);
  EXPECT_EQ(image_user("1000:1").uid, 1000);
  EXPECT_EQ(image_user("web:web").name, "web");
  EXPECT_FALSE(image_user("web").uid);
}

}  // namespace
}  // namespace berth::cri
