#include "engine/process/systemd_unit.h"

#include <gmock/gmock.h>

#include "base/strings.h"

namespace berth::engine::process {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string unit_text(const std::string& path, bool user = false) {
  const auto unit = systemd_unit(path, "c1", user);
  return unit ? unit->slice + " " + unit->name : unit.error().text();
}

TEST(SystemdUnit, ThePathNamesSliceAndScope) {
  EXPECT_EQ(unit_text("machine.slice:libpod:abc"), "machine.slice libpod-abc.scope");
  EXPECT_EQ(unit_text("machine.slice::abc"), "machine.slice abc.scope");
  EXPECT_EQ(unit_text(":p:abc"), "system.slice p-abc.scope");
  EXPECT_EQ(unit_text(":p:abc", true), "user.slice p-abc.scope");
  EXPECT_EQ(unit_text(""), "system.slice berth-c1.scope");
  EXPECT_EQ(unit_text("", true), "user.slice berth-c1.scope");
}

TEST(SystemdUnit, OtherFormsAreRefused) {
  for (const char* path : {"/a/b", "a", "a.slice:b", "a.slice:b:c:d", "a.slice:b:"}) {
    EXPECT_THAT(unit_text(path), HasSubstr("expected cgroupsPath to be of format \"slice:prefix:name\"")) << path;
  }
  EXPECT_THAT(unit_text("a:b:c"), HasSubstr("is no name of a slice"));
  EXPECT_THAT(unit_text("a--b.slice:b:c"), HasSubstr("is no name of a slice"));
  EXPECT_THAT(unit_text("../x.slice:b:c"), HasSubstr("is no name of a slice"));
  EXPECT_THAT(unit_text("a.slice:b:../c"), HasSubstr("cannot be the name of a unit"));
  EXPECT_THAT(unit_text("a.slice:b:c.slice"), HasSubstr("is a slice"));
  EXPECT_THAT(unit_text("a.slice:b:" + std::string(300, 'c')), HasSubstr("cannot be the name of a unit"));
}

TEST(SystemdUnit, SlicesAreNestedByTheirNames) {
  EXPECT_EQ(slice_path("a-b-c.slice").value_or("?"), "/a.slice/a-b.slice/a-b-c.slice");
  EXPECT_EQ(slice_path("system.slice").value_or("?"), "/system.slice");
  EXPECT_EQ(slice_path("-.slice").value_or("?"), "");
  for (const char* name : {"", ".slice", "a", "-a.slice", "a-.slice", "a/b.slice"}) {
    EXPECT_FALSE(slice_path(name).has_value()) << name;
  }
}

UnitProperties limits_of(const char* json, bool v2) {
  const auto resources = spec::parse_resources(json);
  EXPECT_TRUE(resources.has_value()) << resources.error().text();
  const auto plan = v2 ? plan_cgroup_v2(*resources) : plan_cgroup_v1(*resources);
  EXPECT_TRUE(plan.has_value()) << plan.error().text();
  const auto properties = limit_properties(*plan, v2);
  EXPECT_TRUE(properties.has_value()) << properties.error().text();
  return properties.value_or(UnitProperties{});
}

TEST(SystemdLimits, V2) {
  EXPECT_THAT(limits_of(R"({"memory": {"limit": 67108864, "swap": 100663296, "reservation": 33554432},
                            "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1,9", "mems": "0"},
                            "pids": {"limit": 20}, "blockIO": {"weight": 500}})",
                        true),
              ElementsAre("CPUWeight:t=39", "CPUQuotaPerSecUSec:t=500000", "?CPUQuotaPeriodUSec:t=100000",
                          "?AllowedCPUs:ay=0302", "?AllowedMemoryNodes:ay=01", "MemoryMax:t=67108864",
                          "MemorySwapMax:t=33554432", "MemoryLow:t=33554432", "TasksMax:t=20", "IOWeight:t=4950"));
}

TEST(SystemdLimits, NoLimitIsInfinity) {
  EXPECT_THAT(limits_of(R"({"memory": {"limit": -1, "swap": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}})", true),
              ElementsAre("CPUQuotaPerSecUSec:t=18446744073709551615", "?CPUQuotaPeriodUSec:t=100000",
                          "MemoryMax:t=18446744073709551615", "MemorySwapMax:t=18446744073709551615",
                          "TasksMax:t=18446744073709551615"));
}

TEST(SystemdLimits, AQuotaIsRoundedUpToAWholePercent) {
  EXPECT_THAT(limits_of(R"({"cpu": {"quota": 12345, "period": 100000}})", true),
              Contains("CPUQuotaPerSecUSec:t=130000"));
  EXPECT_THAT(limits_of(R"({"cpu": {"quota": 9000000000000000000, "period": 1000}})", true),
              Contains("CPUQuotaPerSecUSec:t=1000000000000000000"));
}

TEST(SystemdLimits, WhatUnifiedSaysOfTheSameFiles) {
  EXPECT_THAT(limits_of(R"({"unified": {"memory.high": "50331648", "memory.oom.group": "1", "cpu.max": "max 50000",
                                        "io.max": "8:0 rbps=1000", "hugetlb.2MB.max": "0"}})",
                        true),
              ElementsAre("CPUQuotaPerSecUSec:t=18446744073709551615", "?CPUQuotaPeriodUSec:t=50000",
                          "MemoryHigh:t=50331648", "?OOMPolicy:s=kill"));
}

TEST(SystemdLimits, V1) {
  EXPECT_THAT(limits_of(R"({"memory": {"limit": 67108864, "reservation": 33554432},
                            "cpu": {"shares": 1024, "quota": 20000, "period": 10000, "cpus": "0"},
                            "pids": {"limit": 20}, "blockIO": {"weight": 500}})",
                        false),
              ElementsAre("CPUShares:t=1024", "MemoryLimit:t=67108864", "TasksMax:t=20", "BlockIOWeight:t=500",
                          "CPUQuotaPerSecUSec:t=2000000", "?CPUQuotaPeriodUSec:t=10000"));
}

constexpr const char* kDrivers =
    "Character devices:\n  1 mem\n  5 /dev/tty\n136 pts\n\nBlock devices:\n  8 sd\n136 other\n";

std::vector<std::string> devices_of(const char* json) {
  const auto resources = spec::parse_resources(json);
  EXPECT_TRUE(resources.has_value());
  return device_properties(resources->devices, kDrivers);
}

TEST(SystemdDevices, AClosedListIsTold) {
  const auto properties = devices_of(R"({"devices": [
      {"allow": true, "type": "c", "major": 9, "minor": 9, "access": "rw"}, {"allow": false},
      {"allow": true, "type": "b", "major": 8, "minor": 1, "access": "r"}, {"allow": true, "type": "b", "major": 8},
      {"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw"},
      {"allow": false, "type": "c", "major": 10, "minor": 200}]})");
  ASSERT_EQ(properties.size(), 3U);
  EXPECT_EQ(properties[0], "DevicePolicy:s=strict");
  EXPECT_EQ(properties[1], "DeviceAllow:a(ss)=");
  EXPECT_THAT(properties[2], HasSubstr("=/dev/block/8:1 r\nblock-sd rwm\n"));
  EXPECT_THAT(properties[2], HasSubstr("\nchar-* m\nblock-* m\n/dev/char/1:3 rwm\n"));
  EXPECT_THAT(properties[2], HasSubstr("\nchar-pts rwm"));
  EXPECT_THAT(properties[2], ::testing::Not(HasSubstr("9:9")));
  EXPECT_THAT(properties[2], ::testing::Not(HasSubstr("10:200")));
}

TEST(SystemdDevices, AnOpenListCannotBe) {
  EXPECT_THAT(devices_of(R"({"devices": [{"allow": false, "type": "c", "major": 1, "minor": 1}]})"), IsEmpty());
  EXPECT_THAT(devices_of(R"({"devices": [{"allow": false}, {"allow": true}]})"), IsEmpty());
  EXPECT_THAT(devices_of("{}"), IsEmpty());
}

std::string annotation(const std::string& name, const std::string& text) {
  const auto properties =
      annotation_properties({{"org.systemd.property." + name, text}, {"org.other", "nothing of systemd's"}});
  return properties ? join(*properties, ";") : "refused: " + properties.error().text();
}

TEST(SystemdAnnotations, SimpleValues) {
  EXPECT_EQ(annotation("SendSIGHUP", "true"), "SendSIGHUP:b=true");
  EXPECT_EQ(annotation("CollectMode", "'inactive-or-failed'"), "CollectMode:s=inactive-or-failed");
  EXPECT_EQ(annotation("Description", R"("it\'s \"so\"")"), "Description:s=it's \"so\"");
  EXPECT_EQ(annotation("TimeoutStopUSec", "uint64 123456789"), "TimeoutStopUSec:t=123456789");
  EXPECT_EQ(annotation("TimeoutStopUSec", "@t 5"), "TimeoutStopUSec:t=5");
  EXPECT_EQ(annotation("OOMScoreAdjust", "-5"), "OOMScoreAdjust:i=-5");
  EXPECT_EQ(annotation("Ratio", "1.5"), "Ratio:d=1.5");
  EXPECT_EQ(annotation("After", "['a.service', 'b.service']"), "After:as=a.service\nb.service");
  EXPECT_EQ(annotation("After", "@as []"), "After:as=");
}

TEST(SystemdAnnotations, SecondsBecomeMicroseconds) {
  EXPECT_EQ(annotation("TimeoutStopSec", "7"), "TimeoutStopUSec:t=7000000");
  EXPECT_EQ(annotation("TimeoutStopSec", "uint64 7"), "TimeoutStopUSec:t=7000000");
  EXPECT_EQ(annotation("TimeoutStopSec", "1.5"), "TimeoutStopUSec:t=1500000");
}

TEST(SystemdAnnotations, WhatIsNoValueIsRefused) {
  for (const char* text : {"", "word", "'open", "'a' 'b'", "uint64 'text'", "string 5", "[1, 2]", "['a' 'b']", "['a',",
                           "[['a']]", "1 2", "'\\x41'", "{'a': 1}"}) {
    EXPECT_THAT(annotation("Name", text), HasSubstr("is no value that is read here")) << text;
  }
  EXPECT_THAT(annotation("TimeoutStopSec", "-1"), HasSubstr("is no value"));
  EXPECT_THAT(annotation("TimeoutStopSec", "'7'"), HasSubstr("is no value"));
  EXPECT_THAT(annotation("a b", "true"), HasSubstr("no name of a property"));
  EXPECT_THAT(annotation("", "true"), HasSubstr("no name of a property"));
}

}  // namespace
}  // namespace berth::engine::process
