#include "os/packet.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "os/channel.h"
#include "os/file.h"

namespace berth::os {
namespace {

TEST(Packet, KeepsBoundsAndEnds) {
  auto pair = packet_socketpair();
  ASSERT_TRUE(pair.has_value());
  ASSERT_TRUE(send_packet(pair->first.get(), "one").has_value());
  ASSERT_TRUE(send_packet(pair->first.get(), std::string(100, 'x')).has_value());
  ASSERT_TRUE(send_packet(pair->first.get(), "three").has_value());
  EXPECT_EQ(receive_packet(pair->second.get(), 10)->bytes, "one");
  EXPECT_EQ(receive_packet(pair->second.get(), 10).error().code(), Code::kExhausted);
  EXPECT_EQ(receive_packet(pair->second.get(), 10)->bytes, "three");
  pair->first.reset();
  EXPECT_EQ(receive_packet(pair->second.get(), 10).error().code(), Code::kUnavailable);
  EXPECT_EQ(send_packet(pair->second.get(), "x").error().code(), Code::kUnavailable);
}

TEST(Packet, ADescriptorComesAlong) {
  auto pair = packet_socketpair();
  auto pipe = make_pipe();
  ASSERT_TRUE(pair.has_value() && pipe.has_value());
  ASSERT_TRUE(send_fd(pair->first.get(), pipe->write.get(), "here").has_value());
  auto packet = receive_packet(pair->second.get(), 64);
  ASSERT_TRUE(packet.has_value());
  EXPECT_EQ(packet->bytes, "here");
  ASSERT_TRUE(packet->fd.valid());
  EXPECT_NE(::fcntl(packet->fd.get(), F_GETFD) & FD_CLOEXEC, 0);
  pipe->write.reset();
  ASSERT_TRUE(write_all(packet->fd.get(), "through").has_value());
  packet->fd.reset();
  EXPECT_EQ(read_all(pipe->read.get(), 64).value_or(""), "through");
}

}  // namespace
}  // namespace berth::os
