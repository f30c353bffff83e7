#include "shim/mapped_layers.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/file.h"
#include "shim/features.h"
#include "shim/rootfs.h"
#include "shim/sandbox.h"
#include "shim/test_support.h"

// Root file systems whose layers belong to others, on the real kernel. This program has a mount namespace of its own.
namespace berth::shim {
namespace {

class MappedLayersTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (::geteuid() != 0) return;
    ASSERT_TRUE(enter_private_mounts());
  }
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "not root";
    for (const char* name : {"layers/one/tree", "layers/two/tree", "upper", "work", "spare"}) {
      ASSERT_TRUE(os::make_dirs(folder_ / name));
    }
    ASSERT_TRUE(os::write_file_atomic(folder_ / "layers/one/tree/lower", "lower"));
    ASSERT_TRUE(os::write_file_atomic(folder_ / "layers/two/tree/changed", "changed"));
    ASSERT_EQ(::chown((folder_ / "layers/two/tree/changed").c_str(), 33, 44), 0);
    const auto plan = plan_root({"overlay",
                                 "overlay",
                                 {"lowerdir=" + folder_ / "layers/two/tree" + ":" + folder_ / "layers/one/tree",
                                  "upperdir=" + folder_ / "upper", "workdir=" + folder_ / "work",
                                  "uidmap=0:100000:1000", "gidmap=0:200000:1000"}});
    ASSERT_TRUE(plan) << plan.error().text();
    plan_ = *plan;
    before_ = mounts();
  }
  void TearDown() override { EXPECT_EQ(mounts(), before_); }
  static std::string mounts() { return os::read_file("/proc/self/mountinfo", 1U << 20).value_or("?"); }
  static std::string owner(int root_fd, const char* name) {
    struct stat st{};
    if (::fstatat(root_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return "missing";
    return std::to_string(st.st_uid) + ":" + std::to_string(st.st_gid);
  }
  void expect_mapped(int root_fd) const {
    EXPECT_EQ(owner(root_fd, "lower"), "100000:200000");
    EXPECT_EQ(owner(root_fd, "changed"), "100033:200044");
    // Copied up, it is on the disk what it was in the mount.
    const auto file = os::open_at(root_fd, "changed", O_WRONLY | O_APPEND);
    ASSERT_TRUE(file) << file.error().text();
    EXPECT_TRUE(os::write_all(file->get(), "!"));
    EXPECT_EQ(owner(AT_FDCWD, (folder_ / "upper/changed").c_str()), "100033:200044");
    EXPECT_EQ(os::read_file(folder_ / "layers/two/tree/changed", 100).value_or(""), "changed");
  }

  test::TempFolder folder_;
  RootPlan plan_;
  std::string before_;
};

TEST_F(MappedLayersTest, BelongToTheHostsIds) {
  const auto root = make_root(plan_, folder_ / "spare");
  ASSERT_TRUE(root) << root.error().text();
  EXPECT_EQ(mounts(), before_) << "nothing of it is seen";
  expect_mapped(root->get());
}

TEST_F(MappedLayersTest, WithTheCallsOfOldKernels) {
  const auto map = open_root_map(plan_.uid_map, plan_.gid_map);
  ASSERT_TRUE(map);
  UniqueFd root;
  {
    const auto layers = MappedLayers::attach(plan_.lower, map->get(), folder_ / "spare");
    ASSERT_TRUE(layers) << layers.error().text();
    RootPlan mapped = plan_;
    mapped.lower = layers->paths();
    auto made = make_overlay_by_mount(mapped, folder_ / "spare");
    ASSERT_TRUE(made) << made.error().text();
    root = std::move(*made);
  }
  expect_mapped(root.get());
}

TEST_F(MappedLayersTest, OneLayerAndABind) {
  plan_.lower.resize(1);
  const auto root = make_root(plan_, folder_ / "spare");
  ASSERT_TRUE(root) << root.error().text();
  EXPECT_EQ(owner(root->get(), "changed"), "100033:200044");
  const auto bind = plan_root({"bind", folder_ / "layers", {"rbind", "uidmap=0:7:10", "gidmap=0:8:10"}});
  ASSERT_TRUE(bind);
  const auto tree = make_root(*bind, folder_ / "spare");
  ASSERT_TRUE(tree) << tree.error().text();
  EXPECT_EQ(owner(tree->get(), "one"), "7:8");
}

TEST_F(MappedLayersTest, WhatCannotBeIsUnsupported) {
  const auto proc = plan_root({"bind", "/proc/sys", {"uidmap=0:7:10", "gidmap=0:8:10"}});
  ASSERT_TRUE(proc);
  EXPECT_EQ(make_root(*proc, folder_ / "spare").error().code(), Code::kUnsupported);
  ASSERT_EQ(::mount("x", (folder_ / "layers/one").c_str(), "tmpfs", 0, nullptr), 0);
  ASSERT_TRUE(os::make_dirs(folder_ / "layers/one/tree"));
  EXPECT_EQ(make_root(plan_, folder_ / "spare").error().code(), Code::kUnsupported) << "layers in two mounts";
  EXPECT_EQ(::umount2((folder_ / "layers/one").c_str(), MNT_DETACH), 0);
}

TEST_F(MappedLayersTest, TheProbeLeavesNothing) {
  const Features features = probe_features(folder_.path());
  EXPECT_TRUE(features.user_namespaces) << features.user_namespaces.error().text();
  EXPECT_TRUE(features.recursive_read_only_mounts) << features.recursive_read_only_mounts.error().text();
  EXPECT_FALSE(os::exists(folder_ / "probe"));
  EXPECT_EQ(features_json(features), R"({"user_namespaces":"","recursive_read_only_mounts":""})");
  EXPECT_FALSE(probe_features("/proc").user_namespaces) << "no place for it";
}

}  // namespace
}  // namespace berth::shim
