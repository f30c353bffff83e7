#include "os/socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

namespace berth::os {
namespace {

using namespace std::chrono_literals;

class SocketTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/berth-socket-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(SocketTest, ListensWithTheModeAndAccepts) {
  const std::string path = folder_ + "/s";
  const auto listener = unix_listen(path, {.mode = 0600, .backlog = 4});
  ASSERT_TRUE(listener) << listener.error().text();
  struct stat info{};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  auto none = accept_connection(listener->get());
  ASSERT_TRUE(none);
  EXPECT_FALSE(none->has_value());
  const auto client = unix_connect(path, 1s);
  ASSERT_TRUE(client) << client.error().text();
  auto peer = accept_connection(listener->get());
  ASSERT_TRUE(peer);
  ASSERT_TRUE(peer->has_value());
  EXPECT_NE(::fcntl((*peer)->get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::fcntl((*peer)->get(), F_GETFL) & O_NONBLOCK, 0);
  const auto who = peer_credentials((*peer)->get());
  ASSERT_TRUE(who);
  EXPECT_EQ(who->pid, ::getpid());
  EXPECT_EQ(who->uid, ::getuid());
}

TEST_F(SocketTest, ReplacesAStaleFileButNotALiveListenerOrAPlainFile) {
  const std::string path = folder_ + "/s";
  {
    ASSERT_TRUE(unix_listen(path));
  }
  EXPECT_EQ(unix_connect(path, 1s).error().code(), Code::kUnavailable);
  const auto second = unix_listen(path);
  ASSERT_TRUE(second) << second.error().text();
  EXPECT_EQ(unix_listen(path).error().code(), Code::kExists);
  const std::string plain = folder_ + "/plain";
  std::ofstream(plain) << "x";
  EXPECT_EQ(unix_listen(plain).error().code(), Code::kExists);
  EXPECT_EQ(std::filesystem::file_size(plain), 1U);
}

TEST_F(SocketTest, LongPathsWork) {
  const std::string deep = folder_ + "/" + std::string(120, 'd');
  ASSERT_TRUE(std::filesystem::create_directory(deep));
  const auto listener = unix_listen(deep + "/s");
  ASSERT_TRUE(listener) << listener.error().text();
  EXPECT_TRUE(std::filesystem::exists(deep + "/s"));
  EXPECT_TRUE(unix_connect(deep + "/s", 1s));
  EXPECT_EQ(unix_listen(deep + "/" + std::string(110, 'n')).error().code(), Code::kInvalid);
}

TEST_F(SocketTest, RefusesBadPathsAndNamesMissingOnes) {
  EXPECT_EQ(unix_listen("").error().code(), Code::kInvalid);
  EXPECT_EQ(unix_connect(std::string("a\0b", 3), 1s).error().code(), Code::kInvalid);
  EXPECT_EQ(unix_connect(folder_ + "/none", 1s).error().code(), Code::kNotFound);
}

TEST_F(SocketTest, ConnectGivesUpWhenTheBacklogStaysFull) {
  const std::string path = folder_ + "/s";
  const auto listener = unix_listen(path, {.mode = 0600, .backlog = 0});
  ASSERT_TRUE(listener);
  const auto first = unix_connect(path, 100ms);
  ASSERT_TRUE(first);
  EXPECT_EQ(unix_connect(path, 50ms).error().code(), Code::kTimeout);
}

TEST_F(SocketTest, SendAndReceiveTellFullEmptyAndEnd) {
  auto pair = unix_socketpair(true);
  ASSERT_TRUE(pair);
  char buffer[16];
  auto got = receive_some(pair->first.get(), buffer);
  ASSERT_TRUE(got);
  EXPECT_FALSE(got->has_value());
  std::string block(1 << 16, 'x');
  iovec part{block.data(), block.size()};
  while (true) {
    const auto sent = send_some(pair->first.get(), {&part, 1});
    ASSERT_TRUE(sent);
    if (!*sent) break;
  }
  pair->first.reset();
  got = receive_some(pair->second.get(), buffer);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->value(), sizeof(buffer));
  EXPECT_EQ(send_some(pair->second.get(), {&part, 1}).error().code(), Code::kUnavailable);
}

TEST_F(SocketTest, DatagramsByPathAndByAbstractName) {
  const std::string path = folder_ + "/notify";
  EXPECT_EQ(unix_datagram_send(path, "READY=1").error().code(), Code::kNotFound);
  for (int i = 0; i < 2; ++i) {  // the second one takes the first one's place
    const auto bound = unix_datagram_bind(path, 0666);
    ASSERT_TRUE(bound);
    ASSERT_TRUE(unix_datagram_send(path, "READY=1"));
    char buffer[16];
    const auto got = receive_some(bound->get(), buffer);
    ASSERT_TRUE(got && *got);
    EXPECT_EQ(std::string_view(buffer, **got), "READY=1");
    const auto none = receive_some(bound->get(), buffer);
    ASSERT_TRUE(none);
    EXPECT_FALSE(none->has_value());
  }
  EXPECT_EQ(unix_datagram_send(path, "x").error().code(), Code::kUnavailable);
  EXPECT_EQ(unix_datagram_send("@berth-test-nobody-is-here", "x").error().code(), Code::kUnavailable);
}

}  // namespace
}  // namespace berth::os
