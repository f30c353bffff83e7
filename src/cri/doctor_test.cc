#include "cri/doctor.h"

#include <algorithm>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::cri {
namespace {

using testing::HasSubstr;

TEST(Doctor, TheNetworkSaysWhatIsWrong) {
  const auto built_in =
      probe_network({.ready = true, .reason = {}, .message = {}, .network = "berth", .builtin = true});
  EXPECT_EQ(built_in.health, Health::kGood);
  EXPECT_EQ(built_in.remedy, "");
  const auto broken = probe_network({.ready = false,
                                     .reason = "NoPlugin",
                                     .message = "bridge is not in /opt/cni/bin",
                                     .network = "x",
                                     .builtin = false});
  EXPECT_EQ(broken.name, "NetworkReady");
  EXPECT_EQ(broken.health, Health::kBad);
  EXPECT_THAT(broken.found, HasSubstr("bridge is not in /opt/cni/bin"));
  EXPECT_NE(broken.remedy, "");
}

TEST(Doctor, AHandlerWithoutItsProgramIsBadWhenItIsTheDefault) {
  HandlerTable table;
  table.default_handler = "gone";
  table.handlers = {{"gone", {.binary = "/no/such/runtime"}}, {"berth", {}}, {"other", {.shim = "/no/such/shim"}}};
  FeatureTable features;
  features.set_machine({.no_user_namespaces = "it is old", .no_recursive_read_only = {}});
  const auto probes = probe_handlers(table, features);
  ASSERT_EQ(probes.size(), 3U);
  EXPECT_EQ(probes[0].name, "handler berth");
  EXPECT_EQ(probes[0].health, Health::kGood);
  EXPECT_THAT(probes[0].found, HasSubstr("recursive read-only mounts"));
  EXPECT_EQ(probes[1].health, Health::kBad);
  EXPECT_THAT(probes[1].found, HasSubstr("/no/such/runtime"));
  EXPECT_THAT(probes[1].remedy, HasSubstr("[handlers.gone]"));
  EXPECT_EQ(probes[2].health, Health::kLimited);
}

TEST(Doctor, CgroupsThatAreNotThere) {
  os::CgroupLayout none;
  none.root = "/sys/fs/cgroup";
  EXPECT_EQ(probe_cgroups(none, {}).health, Health::kBad);
  EXPECT_EQ(probe_runtime(none, 0, 0).health, Health::kBad);
  os::CgroupLayout some;
  some.hierarchies.push_back({"memory", {"memory"}, UniqueFd()});
  EXPECT_EQ(probe_runtime(some, 1, 2).health, Health::kGood);
  const auto lacking = probe_cgroups(some, {});
  EXPECT_EQ(lacking.health, Health::kLimited);
  EXPECT_THAT(lacking.remedy, HasSubstr("cpu, cpuset, pids"));
}

TEST(Doctor, TheDriverNeedsItsProgram) {
  EXPECT_EQ(probe_driver(CgroupDriver::kCgroupfs, "", "/berth").health, Health::kGood);
  const auto absent = probe_driver(CgroupDriver::kSystemd, "/no/such/berth-scope", "berth.slice");
  EXPECT_EQ(absent.health, Health::kBad);
  EXPECT_THAT(absent.found, HasSubstr("/no/such/berth-scope"));
}

TEST(Doctor, SpaceAndPrograms) {
  EXPECT_EQ(probe_space("store", "/no/such/place").health, Health::kBad);
  const auto space = probe_space("store", "/proc");  // of no size at all: that is not full
  EXPECT_EQ(space.name, "store");
  EXPECT_EQ(space.health, Health::kGood) << space.found;
  EXPECT_EQ(probe_program("sh", "anything").health, Health::kGood);
  const auto absent = probe_program("no-such-program", "flying");
  EXPECT_EQ(absent.health, Health::kLimited);
  EXPECT_EQ(absent.remedy, "install no-such-program for flying");
  EXPECT_EQ(probe_shim("/no/such/shim").health, Health::kBad);
}

TEST(Doctor, WhatIsNotWellHasARemedy) {
  HostFacts host;
  host.bounding_caps = ~0ULL & ~(1ULL << 24U);
  auto probes = probe_kernel(host);
  probes.push_back(probe_security({}));
  HostFacts selinux;
  selinux.selinux = true;
  EXPECT_EQ(probe_security(selinux).health, Health::kLimited);
  HostFacts apparmor;
  apparmor.apparmor = true;
  apparmor.apparmor_problem = "no parser";
  EXPECT_EQ(probe_security(apparmor).health, Health::kLimited);
  EXPECT_THAT(probe_security(apparmor).found, HasSubstr("no parser"));
  apparmor.apparmor_default = "ours";
  EXPECT_EQ(probe_security(apparmor).health, Health::kGood);
  EXPECT_THAT(probe_security(apparmor).found, HasSubstr("ours"));
  std::set<std::string> names;
  for (const auto& probe : probes) {
    EXPECT_EQ(probe.remedy.empty(), probe.health == Health::kGood) << probe.name;
    EXPECT_FALSE(probe.found.empty()) << probe.name;
    EXPECT_TRUE(names.insert(probe.name).second) << probe.name;
  }
  const auto caps = std::ranges::find(probes, "capabilities", &Probe::name);
  ASSERT_NE(caps, probes.end());
  EXPECT_THAT(caps->found, HasSubstr("SYS_RESOURCE"));
}

}  // namespace
}  // namespace berth::cri
