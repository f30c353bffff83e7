#include "property.h"

#include <gmock/gmock.h>
#include <systemd/sd-bus.h>

#include <cstdint>
#include <vector>

#include "os/socket.h"

namespace berth::scope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Property, ALineIsTakenApart) {
  const auto property = parse_property("?DeviceAllow:a(ss)=/dev/char/1:3 rw");
  ASSERT_TRUE(property.has_value());
  EXPECT_TRUE(property->optional);
  EXPECT_EQ(property->name, "DeviceAllow");
  EXPECT_EQ(property->type, "a(ss)");
  EXPECT_EQ(property->value, "/dev/char/1:3 rw");
  const auto description = parse_property("Description:s=a: b=c");
  ASSERT_TRUE(description.has_value());
  EXPECT_FALSE(description->optional);
  EXPECT_EQ(description->value, "a: b=c");
  for (const char* text : {"", "Name", "Name:t", "Name=1", ":t=1", "Name:=1"}) {
    EXPECT_FALSE(parse_property(text).has_value()) << text;
  }
}

/// A message that can be read back: sealed, as one that goes out.
class MessageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // A connection that nobody answers: enough to build messages with.
    ASSERT_GE(sd_bus_new(&bus_), 0);
    auto pair = os::unix_socketpair();
    ASSERT_TRUE(pair.has_value());
    peer_ = std::move(pair->second);
    const int own = pair->first.release();  // the bus closes it
    ASSERT_GE(sd_bus_set_fd(bus_, own, own), 0);
    ASSERT_GE(sd_bus_start(bus_), 0);
    ASSERT_GE(sd_bus_message_new_method_call(bus_, &message_, "a.b", "/", "a.b", "C"), 0);
  }
  void TearDown() override {
    sd_bus_message_unref(message_);
    sd_bus_close(bus_);
    sd_bus_unref(bus_);
  }
  /// Adds the property and opens its variant for reading.
  void build(const std::string& line, const char* type) {
    const auto property = parse_property(line);
    ASSERT_TRUE(property.has_value()) << property.error().text();
    const auto done = append_property(message_, *property);
    ASSERT_TRUE(done.has_value()) << done.error().text();
    ASSERT_GE(sd_bus_message_seal(message_, 1, 0), 0);
    ASSERT_GE(sd_bus_message_rewind(message_, 1), 0);
    ASSERT_GT(sd_bus_message_enter_container(message_, 'r', "sv"), 0);
    const char* name = nullptr;
    ASSERT_GT(sd_bus_message_read(message_, "s", &name), 0);
    EXPECT_EQ(line.substr(0, line.find(':')), name);
    ASSERT_GT(sd_bus_message_enter_container(message_, 'v', type), 0);
  }
  std::string refusal(const std::string& line) {
    const auto property = parse_property(line);
    const auto done = append_property(message_, *property);
    return done ? "taken" : done.error().text();
  }

  UniqueFd peer_;
  sd_bus* bus_ = nullptr;
  sd_bus_message* message_ = nullptr;
};

TEST_F(MessageTest, Numbers) {
  build("MemoryMax:t=18446744073709551615", "t");
  std::uint64_t number = 0;
  ASSERT_GT(sd_bus_message_read(message_, "t", &number), 0);
  EXPECT_EQ(number, UINT64_MAX);
}

TEST_F(MessageTest, Booleans) {
  build("Delegate:b=true", "b");
  int on = 0;
  ASSERT_GT(sd_bus_message_read(message_, "b", &on), 0);
  EXPECT_EQ(on, 1);
}

TEST_F(MessageTest, Bytes) {
  build("AllowedCPUs:ay=05ff", "ay");
  const void* bytes = nullptr;
  std::size_t size = 0;
  ASSERT_GT(sd_bus_message_read_array(message_, 'y', &bytes, &size), 0);
  const auto* const first = static_cast<const std::uint8_t*>(bytes);
  EXPECT_THAT(std::vector<std::uint8_t>(first, first + size), ElementsAre(0x05, 0xff));
}

TEST_F(MessageTest, Pairs) {
  build("DeviceAllow:a(ss)=/dev/char/1:3 rwm\nchar-pts rw", "a(ss)");
  const char* words[4] = {};
  ASSERT_GT(sd_bus_message_read(message_, "a(ss)", 2, &words[0], &words[1], &words[2], &words[3]), 0);
  EXPECT_STREQ(words[0], "/dev/char/1:3");
  EXPECT_STREQ(words[3], "rw");
}

TEST_F(MessageTest, AnEmptyList) {
  build("After:as=", "as");
  ASSERT_GT(sd_bus_message_enter_container(message_, 'a', "s"), 0);
  EXPECT_GT(sd_bus_message_at_end(message_, 0), 0);
}

TEST_F(MessageTest, WhatIsNoValueOfItsTypeIsRefused) {
  EXPECT_THAT(refusal("MemoryMax:t=-1"), HasSubstr("is no value of type t"));
}
TEST_F(MessageTest, SoIsAnUnknownType) {
  EXPECT_THAT(refusal("MemoryMax:(tt)=1"), HasSubstr("no type \"(tt)\" here"));
}
TEST_F(MessageTest, AndABadName) {
  EXPECT_THAT(refusal("Mem ory:t=1"), HasSubstr("is no name of a property"));
}

}  // namespace
}  // namespace berth::scope
