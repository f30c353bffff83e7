#include "os/netlink.h"

#include <gtest/gtest.h>
#include <linux/netlink.h>

#include <cstring>

#include "os/inet.h"

namespace berth::os {
namespace {

TEST(Inet, ParsesOnlyWholeAddresses) {
  EXPECT_EQ(parse_ipv4("10.0.0.1")->value, 0x0a000001U);
  for (const char* bad : {"", "10.0.0", "10.0.0.256", "10.0.0.1 ", "1.2.3.4.5", "010.0.0.1x", "::1"}) {
    EXPECT_FALSE(parse_ipv4(bad)) << bad;
  }
  EXPECT_EQ(format_ipv4({0xff000a01U}), "255.0.10.1");
}

TEST(Inet, SubnetsHaveNoHostBits) {
  const auto net = parse_ipv4_subnet("10.88.0.0/16");
  ASSERT_TRUE(net);
  EXPECT_TRUE(net->contains(*parse_ipv4("10.88.255.255")));
  EXPECT_FALSE(net->contains(*parse_ipv4("10.89.0.0")));
  EXPECT_EQ(net->broadcast(), *parse_ipv4("10.88.255.255"));
  EXPECT_EQ(format_ipv4_subnet(*net), "10.88.0.0/16");
  for (const char* bad : {"10.88.0.1/16", "10.88.0.0", "10.88.0.0/33", "10.88.0.0/-1", "x/8"}) {
    EXPECT_FALSE(parse_ipv4_subnet(bad)) << bad;
  }
}

TEST(Inet, Ipv6IsRecognised) {
  EXPECT_TRUE(is_ipv6("::"));
  EXPECT_TRUE(is_ipv6("fd00::1"));
  EXPECT_FALSE(is_ipv6("10.0.0.1"));
  EXPECT_FALSE(is_ipv6(""));
}

TEST(NetlinkBatch, LengthsAndPaddingAreRight) {
  NetlinkBatch batch;
  batch.begin(16, 0, std::uint32_t{7}, "first");
  batch.put_string(3, "ab");
  const auto outer = batch.nest(5);
  batch.put_value(1, std::uint8_t{9});
  batch.end_nest(outer);
  batch.end();
  // nlmsghdr 16, family header 4, "ab\0" in 4+4, nest 4 holding 4+1 padded to 8.
  nlmsghdr header{};
  ASSERT_EQ(batch.bytes().size(), 16U + 4U + 8U + 4U + 8U);
  std::memcpy(&header, batch.bytes().data(), sizeof header);
  EXPECT_EQ(header.nlmsg_len, batch.bytes().size());
  EXPECT_EQ(header.nlmsg_flags, NLM_F_REQUEST | NLM_F_ACK);
  std::vector<std::uint16_t> types;
  for_each_attribute(batch.bytes().subspan(20), [&](std::uint16_t type, std::span<const std::byte> value) {
    types.push_back(type);
    if (type == 3) {
      EXPECT_EQ(attribute_string(value), "ab");
    }
    if (type == 5) {
      for_each_attribute(value, [](std::uint16_t inner, std::span<const std::byte> byte) {
        EXPECT_EQ(inner, 1);
        EXPECT_EQ(attribute_value<std::uint8_t>(byte), 9);
      });
    }
  });
  EXPECT_EQ(types, (std::vector<std::uint16_t>{3, 5}));
}

TEST(NetlinkAttributes, BrokenLengthsEndTheWalk) {
  for (const std::uint16_t length : {std::uint16_t{0}, std::uint16_t{3}, std::uint16_t{9}, std::uint16_t{0xffff}}) {
    std::array<std::byte, 8> bytes{};
    std::memcpy(bytes.data(), &length, sizeof length);
    int seen = 0;
    for_each_attribute(bytes, [&seen](std::uint16_t, std::span<const std::byte>) { ++seen; });
    EXPECT_EQ(seen, 0) << length;
  }
  EXPECT_EQ(attribute_value<std::uint32_t>({}), 0U);
}

}  // namespace
}  // namespace berth::os
