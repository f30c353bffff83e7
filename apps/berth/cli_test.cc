#include <gtest/gtest.h>

#include "arguments.h"

namespace berth::cli {
namespace {

TEST(Arguments, Ports) {
  const auto plain = parse_port("8080:80");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->host_port(), 8080);
  EXPECT_EQ(plain->container_port(), 80);
  EXPECT_EQ(plain->protocol(), ::runtime::v1::TCP);
  const auto full = parse_port("[::1]:53:5353/udp");
  ASSERT_TRUE(full);
  EXPECT_EQ(full->host_ip(), "::1");
  EXPECT_EQ(full->protocol(), ::runtime::v1::UDP);
  for (const auto* bad : {"", "80", "80:", ":80", "x:80", "70000:80", "0:80", "80:80/icmp", "1:2:3:x"}) {
    EXPECT_FALSE(parse_port(bad)) << bad;
  }
}

TEST(Arguments, Volumes) {
  const auto mount = parse_volume("/a:/b:ro");
  ASSERT_TRUE(mount);
  EXPECT_TRUE(mount->readonly());
  EXPECT_EQ(mount->host_path(), "/a");
  for (const auto* bad : {"", "/a", "a:/b", "/a:b", "/a:/b:rx", "/a:/b:ro:x"}) EXPECT_FALSE(parse_volume(bad)) << bad;
}

TEST(Arguments, Bytes) {
  EXPECT_EQ(parse_bytes("64m").value(), 64 << 20);
  EXPECT_EQ(parse_bytes("1024").value(), 1024);
  for (const auto* bad : {"", "m", "-1", "1t", "1.5g", "9999999999999g"}) EXPECT_FALSE(parse_bytes(bad)) << bad;
}

}  // namespace
}  // namespace berth::cli
