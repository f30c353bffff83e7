#include "cri/cgroup_names.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::cri {
namespace {

using testing::HasSubstr;
constexpr auto kCgroupfs = CgroupDriver::kCgroupfs;
constexpr auto kSystemd = CgroupDriver::kSystemd;

std::string pod(CgroupDriver driver, const char* asked) {
  const auto path = pod_cgroup(driver, asked, driver == kSystemd ? "berth.slice" : "/berth", "s1");
  return path ? *path : path.error().text();
}

TEST(CgroupNames, ASliceIsExpandedToItsPath) {
  EXPECT_EQ(pod(kSystemd, "kubepods-burstable-pod1a_2b.slice"),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1a_2b.slice");
  EXPECT_EQ(pod(kSystemd, "kubepods.slice"), "/kubepods.slice");
  EXPECT_EQ(pod(kSystemd, ""), "/berth.slice/berth-s1.slice");
  EXPECT_EQ(pod_cgroup(kSystemd, "", "my-pods.slice", "s1").value_or(""), "/my.slice/my-pods.slice/my-pods-s1.slice");
}

TEST(CgroupNames, APathStaysAPath) {
  EXPECT_EQ(pod(kCgroupfs, "/kubepods/burstable/pod1"), "/kubepods/burstable/pod1");
  EXPECT_EQ(pod(kCgroupfs, "kubepods//pod1/"), "/kubepods/pod1");
  EXPECT_EQ(pod(kCgroupfs, ""), "/berth/s1");
  EXPECT_THAT(pod(kCgroupfs, "/a/../b"), HasSubstr("holds \"..\""));
}

TEST(CgroupNames, TheOtherDriversFormIsRefused) {
  EXPECT_THAT(pod(kCgroupfs, "kubepods-pod1.slice"), HasSubstr("is a slice of systemd's"));
  for (const char* asked : {"/kubepods/pod1", "kubepods", "/kubepods.slice/kubepods-pod1.slice", "a/b.slice"}) {
    EXPECT_THAT(pod(kSystemd, asked), HasSubstr("is no slice like")) << asked;
  }
  for (const char* asked : {"a--b.slice", "-a.slice", ".slice", "..slice.slice-.slice"}) {
    EXPECT_THAT(pod(kSystemd, asked), HasSubstr("is no name of a slice")) << asked;
  }
  EXPECT_THAT(pod(kSystemd, "-.slice"), HasSubstr("holds everything"));
  EXPECT_EQ(pod_cgroup(kSystemd, "/kubepods/pod1", "berth.slice", "s1").error().code(), Code::kInvalid);
}

TEST(CgroupNames, TheParentOfPodsIsOfTheDriversForm) {
  EXPECT_EQ(parent_cgroup(kCgroupfs, "/berth").value_or(""), "/berth");
  EXPECT_EQ(parent_cgroup(kSystemd, "a-b.slice").value_or(""), "/a.slice/a-b.slice");
  EXPECT_EQ(parent_cgroup(kCgroupfs, "berth.slice").error().code(), Code::kInvalid);
  EXPECT_EQ(parent_cgroup(kSystemd, "/berth").error().code(), Code::kInvalid);
}

TEST(CgroupNames, ContainersAreScopesInThePodsSlice) {
  const std::string slice = "/k.slice/k-p.slice";
  EXPECT_EQ(container_cgroup(kSystemd, slice, "c1"), slice + "/berth-c1.scope");
  EXPECT_EQ(spec_cgroups_path(kSystemd, slice, "c1"), "k-p.slice:berth:c1");
  EXPECT_EQ(shown_cgroups_path(slice + "/berth-c1.scope", "c1"), "k-p.slice:berth:c1");
  EXPECT_EQ(container_cgroup(kCgroupfs, "/k/p", "c1"), "/k/p/c1");
  EXPECT_EQ(spec_cgroups_path(kCgroupfs, "/k/p", "c1"), "/k/p/c1");
  EXPECT_EQ(shown_cgroups_path("/k/p/c1", "c1"), "/k/p/c1");
  EXPECT_EQ(unit_of(slice), "k-p.slice");
}

TEST(CgroupNames, WhoseItIs) {
  EXPECT_EQ(owner_in_name("c1"), "c1");
  EXPECT_EQ(owner_in_name("berth-c1.scope"), "c1");
  EXPECT_EQ(owner_in_name("berth-c1.slice"), "c1");
  EXPECT_EQ(owner_in_name("my-pods-c1.slice"), "c1");
  EXPECT_EQ(owner_in_name("berth-.slice"), "");
  EXPECT_EQ(owner_in_name("c1.slice"), "c1");
  EXPECT_EQ(owner_in_name("cri-containerd-c1.scope"), "cri-containerd-c1.scope");
}

}  // namespace
}  // namespace berth::cri
