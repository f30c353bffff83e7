#include "ttrpc/server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>

#include "os/socket.h"
#include "ttrpc/frame.h"
#include "ttrpc/wire.h"

namespace berth::ttrpc {
namespace {

using namespace std::chrono_literals;

struct Answer {
  std::uint32_t id = 0;
  std::int32_t status = -1;
  std::string message;
  std::string payload;
};

// A client made of bare bytes. The loop runs while it waits, so each test is one thread and every step happens in
// order.
class Peer {
 public:
  Peer(event::Loop& loop, UniqueFd socket) : loop_(loop), fd_(std::move(socket)) {}

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const iovec part{const_cast<char*>(bytes.data()), bytes.size()};
      const auto sent = os::send_some(fd_.get(), {&part, 1});
      ASSERT_TRUE(sent) << sent.error().text();
      if (*sent) bytes.remove_prefix(**sent);
      ASSERT_TRUE(loop_.run_once(0ms));
    }
  }
  void request(std::uint32_t id, std::string_view method, std::string_view payload = {},
               std::int64_t timeout_nano = 0) {
    send(encode_request_frame(id, {"test.Service", method, payload, timeout_nano, {}}).value());
  }
  // The next answer; id 0 when the server closed the connection.
  Answer receive() {
    const auto limit = std::chrono::steady_clock::now() + 20s;
    while (std::chrono::steady_clock::now() < limit) {
      if (input_.size() >= kHeaderSize) {
        const FrameHeader header = decode_header(input_);
        if (input_.size() >= kHeaderSize + header.length) {
          EXPECT_EQ(header.type, FrameType::kResponse);
          const auto body = decode_response(std::string_view(input_).substr(kHeaderSize, header.length));
          EXPECT_TRUE(body);
          Answer answer{header.stream_id, body->code, std::string(body->message), std::string(body->payload)};
          input_.erase(0, kHeaderSize + header.length);
          return answer;
        }
      }
      EXPECT_TRUE(loop_.run_once(0ms));
      char buffer[65536];
      const auto got = os::receive_some(fd_.get(), buffer);
      if (!got || (*got && **got == 0)) return {};
      if (*got) input_.append(buffer, **got);
    }
    ADD_FAILURE() << "no answer";
    return {};
  }
  void hang_up() { fd_.reset(); }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  event::Loop& loop_;
  UniqueFd fd_;
  std::string input_;
};

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override { make({}); }

  void make(ServerOptions options) {
    parked_.clear();
    server_.reset();
    loop_ = std::move(event::Loop::create().value());
    options.on_connection_error = [this](const Error& error) { errors_.push_back(error); };
    server_ = std::make_unique<Server>(*loop_, std::move(options));
    server_->handle("test.Service", "Echo",
                    [](std::string_view payload, Responder responder) { responder.ok(payload); });
    server_->handle("test.Service", "Fail", [](std::string_view, Responder responder) {
      responder.error(Error(Code::kNotFound, "no such container"));
    });
    server_->handle("test.Service", "Park",
                    [this](std::string_view, Responder responder) { parked_.push_back(std::move(responder)); });
    server_->handle("test.Service", "Drop", [](std::string_view, Responder) {});
    server_->handle("test.Service", "Big", [](std::string_view payload, Responder responder) {
      responder.ok(std::string(std::stoul(std::string(payload)), 'x'));
    });
  }
  Peer peer() {
    auto pair = os::unix_socketpair(true).value();
    EXPECT_TRUE(server_->add_connection(std::move(pair.first)));
    return Peer(*loop_, std::move(pair.second));
  }
  void spin(int rounds = 5) {
    for (int i = 0; i < rounds; ++i) ASSERT_TRUE(loop_->run_once(0ms));
  }

  std::unique_ptr<event::Loop> loop_;
  std::vector<Error> errors_;
  std::vector<Responder> parked_;
  std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, AnswersAndReportsErrors) {
  Peer client = peer();
  client.request(1, "Echo", "hello");
  Answer answer = client.receive();
  EXPECT_EQ(answer.id, 1U);
  EXPECT_EQ(answer.status, 0);
  EXPECT_EQ(answer.payload, "hello");
  client.request(3, "Fail");
  answer = client.receive();
  EXPECT_EQ(answer.id, 3U);
  EXPECT_EQ(answer.status, 5);
  EXPECT_EQ(answer.message, "no such container");
  EXPECT_EQ(answer.payload, "");
}

TEST_F(ServerTest, UnknownNamesAreUnimplemented) {
  Peer client = peer();
  client.request(1, "Nothing");
  EXPECT_EQ(client.receive().status, 12);
  client.send(encode_request_frame(3, {"other.Service", "Echo", "", 0, {}}).value());
  const Answer answer = client.receive();
  EXPECT_EQ(answer.status, 12);
  EXPECT_EQ(answer.message, "service other.Service");
}

TEST_F(ServerTest, ProtocolMistakesAreAnsweredAndSurvived) {
  Peer client = peer();
  client.request(2, "Echo");
  EXPECT_EQ(client.receive().status, 3);
  const auto data = encode_header({0, 1, FrameType::kData, kFlagRemoteClosed | kFlagNoData});
  client.send({data.data(), data.size()});
  EXPECT_EQ(client.receive().status, 3);
  const auto bad = encode_header({1, 5, FrameType::kRequest, 0});
  client.send(std::string(bad.data(), bad.size()) + "\x0a");
  EXPECT_EQ(client.receive().status, 3);
  std::string stream = encode_request_frame(7, {"test.Service", "Echo", "", 0, {}}).value();
  stream[9] = static_cast<char>(kFlagRemoteOpen);
  client.send(stream);
  EXPECT_EQ(client.receive().status, 12);
  const auto future = encode_header({0, 9, static_cast<FrameType>(9), 0});
  client.send({future.data(), future.size()});
  client.request(11, "Echo", "still here");
  const Answer answer = client.receive();
  EXPECT_EQ(answer.id, 11U);
  EXPECT_EQ(answer.payload, "still here");
  EXPECT_TRUE(errors_.empty());
}

TEST_F(ServerTest, OversizedRequestsAreRefusedWithoutMemory) {
  Peer client = peer();
  const auto header = encode_header({kMaxData + 1, 1, FrameType::kRequest, 0});
  client.send({header.data(), header.size()});
  EXPECT_EQ(client.receive().status, 8);
  const auto before = ::mallinfo2().uordblks;
  const std::string block(1 << 20, 'x');
  for (int i = 0; i < 4; ++i) client.send(block);
  EXPECT_LT(::mallinfo2().uordblks, before + (2U << 20));
  client.send("x");
  client.request(3, "Echo", "after");
  EXPECT_EQ(client.receive().payload, "after");
}

TEST_F(ServerTest, PromisedLengthsCostNoMemory) {
  std::vector<Peer> peers;
  const auto before = ::mallinfo2().uordblks + ::mallinfo2().hblkhd;
  for (int i = 0; i < 100; ++i) {
    peers.push_back(peer());
    const auto header = encode_header({kMaxData, 1, FrameType::kRequest, 0});
    peers.back().send(std::string(header.data(), header.size()) + "x");
  }
  spin();
  EXPECT_LT(::mallinfo2().uordblks + ::mallinfo2().hblkhd, before + (2U << 20));
  EXPECT_EQ(server_->connection_count(), 100U);
}

TEST_F(ServerTest, BytesMayComeOneByOneOrManyAtOnce) {
  Peer client = peer();
  const std::string one = encode_request_frame(1, {"test.Service", "Echo", "abc", 0, {}}).value();
  for (const char byte : one) client.send({&byte, 1});
  EXPECT_EQ(client.receive().payload, "abc");
  std::string many;
  for (std::uint32_t id = 3; id < 203; id += 2) {
    many += encode_request_frame(id, {"test.Service", "Echo", std::string(id * 10, 'x'), 0, {}}).value();
  }
  client.send(many);
  for (std::uint32_t id = 3; id < 203; id += 2) {
    const Answer answer = client.receive();
    EXPECT_EQ(answer.id, id);
    EXPECT_EQ(answer.payload.size(), id * 10);
  }
}

TEST_F(ServerTest, GarbageEndsItsConnectionAlone) {
  Peer good = peer();
  Peer bad = peer();
  bad.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(bad.receive().id, 0U);
  ASSERT_EQ(errors_.size(), 1U);
  EXPECT_EQ(errors_[0].code(), Code::kInvalid);
  EXPECT_EQ(server_->connection_count(), 1U);
  good.request(1, "Echo", "fine");
  EXPECT_EQ(good.receive().payload, "fine");
}

TEST_F(ServerTest, HalfAFrameThenEndIsReported) {
  Peer client = peer();
  client.send(std::string(3, '\0'));
  client.hang_up();
  spin();
  EXPECT_EQ(server_->connection_count(), 0U);
  Peer body = peer();
  const auto header = encode_header({100, 1, FrameType::kRequest, 0});
  body.send(std::string(header.data(), header.size()) + "abc");
  body.hang_up();
  spin();
  EXPECT_EQ(server_->connection_count(), 0U);
  Peer clean = peer();
  clean.hang_up();
  spin();
  ASSERT_EQ(errors_.size(), 2U) << "an end between two frames is no error";
  EXPECT_EQ(errors_[0].code(), Code::kInvalid);
  EXPECT_EQ(errors_[1].code(), Code::kInvalid);
}

TEST_F(ServerTest, AnswersMayComeLaterAndInAnyOrder) {
  Peer client = peer();
  for (std::uint32_t id = 1; id < 100; id += 2) client.request(id, "Park");
  client.request(101, "Echo", "not held up");
  EXPECT_EQ(client.receive().payload, "not held up");
  ASSERT_EQ(parked_.size(), 50U);
  EXPECT_TRUE(parked_[7].wanted());
  parked_[7].ok("seven");
  EXPECT_FALSE(parked_[7].wanted());
  parked_[7].ok("twice is once");
  EXPECT_EQ(client.receive().id, 15U);
  parked_[3].error(Error(Code::kPrecondition, "no"));
  EXPECT_EQ(client.receive().status, 9);
}

TEST_F(ServerTest, AnswersToAGoneConnectionVanish) {
  Peer client = peer();
  client.request(1, "Park");
  spin();
  ASSERT_EQ(parked_.size(), 1U);
  client.hang_up();
  spin();
  EXPECT_EQ(server_->connection_count(), 0U);
  EXPECT_FALSE(parked_[0].wanted());
  parked_[0].ok("late");
  EXPECT_TRUE(errors_.empty());
}

TEST_F(ServerTest, RespondersOutliveTheServer) {
  Peer client = peer();
  client.request(1, "Park");
  spin();
  ASSERT_EQ(parked_.size(), 1U);
  server_.reset();
  parked_[0].ok("late");
  EXPECT_EQ(client.receive().id, 0U);
}

TEST_F(ServerTest, AForgottenCallIsAnInternalError) {
  Peer client = peer();
  client.request(1, "Drop");
  EXPECT_EQ(client.receive().status, 13);
  client.request(3, "Park");
  client.request(5, "Park");
  spin();
  ASSERT_EQ(parked_.size(), 2U);
  parked_[0] = std::move(parked_[1]);
  EXPECT_EQ(client.receive().id, 3U);
  parked_[0].ok("x");
  EXPECT_EQ(client.receive().id, 5U);
}

TEST_F(ServerTest, TheDeadlineReachesTheHandler) {
  Peer client = peer();
  const auto start = std::chrono::steady_clock::now();
  client.request(1, "Park", "", 5'000'000'000);
  client.request(3, "Park");
  client.request(5, "Park", "", std::numeric_limits<std::int64_t>::max());
  spin();
  ASSERT_EQ(parked_.size(), 3U);
  ASSERT_TRUE(parked_[0].deadline());
  EXPECT_GE(*parked_[0].deadline(), start + 5s);
  EXPECT_LT(*parked_[0].deadline(), start + 60s);
  EXPECT_FALSE(parked_[1].deadline());
  EXPECT_FALSE(parked_[2].deadline()) << "centuries are no deadline";
}

TEST_F(ServerTest, LargeAnswersArriveWholeAndFreeTheirMemory) {
  Peer client = peer();
  client.request(1, "Big", std::to_string(kMaxData - 16));
  EXPECT_EQ(client.receive().payload.size(), kMaxData - 16);
  client.request(3, "Big", std::to_string(kMaxData));
  EXPECT_EQ(client.receive().status, 8);
  client.request(5, "Echo", "usable");
  EXPECT_EQ(client.receive().payload, "usable");
}

TEST_F(ServerTest, AReaderThatNeverReadsIsClosed) {
  ServerOptions options;
  options.max_queue_bytes = 1 << 20;
  make(std::move(options));
  Peer client = peer();
  // Parked first: answers to calls in flight are the only way past the back-pressure on reading.
  for (std::uint32_t id = 1; id < 100; id += 2) client.request(id, "Park");
  spin();
  ASSERT_EQ(parked_.size(), 50U);
  for (Responder& responder : parked_) responder.ok(std::string(100000, 'x'));
  ASSERT_EQ(errors_.size(), 1U);
  EXPECT_EQ(errors_[0].code(), Code::kExhausted);
  EXPECT_EQ(server_->connection_count(), 0U);
}

TEST_F(ServerTest, APeerThatDoesNotReadIsNotReadFrom) {
  Peer client = peer();
  std::string burst;
  for (std::uint32_t id = 1; id < 400; id += 2) {
    burst += encode_request_frame(id, {"test.Service", "Big", "100000", 0, {}}).value();
  }
  client.send(burst);
  spin(50);
  EXPECT_EQ(server_->connection_count(), 1U) << "20 MB of answers are held back, not queued";
  for (std::uint32_t id = 1; id < 400; id += 2) ASSERT_EQ(client.receive().id, id);
}

TEST_F(ServerTest, LimitsOnCallsAndConnections) {
  ServerOptions options;
  options.max_in_flight = 2;
  options.max_connections = 1;
  make(std::move(options));
  Peer client = peer();
  for (const std::uint32_t id : {1U, 3U, 5U}) client.request(id, "Park");
  Answer answer = client.receive();
  EXPECT_EQ(answer.id, 5U);
  EXPECT_EQ(answer.status, 8);
  parked_[0].ok("");
  EXPECT_EQ(client.receive().id, 1U);
  client.request(7, "Echo");
  EXPECT_EQ(client.receive().status, 0);
  auto pair = os::unix_socketpair().value();
  EXPECT_EQ(server_->add_connection(std::move(pair.first)).error().code(), Code::kExhausted);
}

TEST_F(ServerTest, WhenFlushedWaitsForTheReader) {
  Peer client = peer();
  client.request(1, "Big", "3000000");
  spin();
  bool flushed = false;
  server_->when_flushed([&]() { flushed = true; });
  spin();
  EXPECT_FALSE(flushed);
  EXPECT_EQ(client.receive().payload.size(), 3000000U);
  spin();
  EXPECT_TRUE(flushed);
  bool again = false;
  server_->when_flushed([&]() { again = true; });
  EXPECT_FALSE(again) << "must not run inside the call";
  spin();
  EXPECT_TRUE(again);
}

TEST_F(ServerTest, AGoneReaderDoesNotHoldUpTheFlush) {
  Peer client = peer();
  client.request(1, "Big", "3000000");
  spin();
  bool flushed = false;
  server_->when_flushed([&]() { flushed = true; });
  client.hang_up();
  spin();
  EXPECT_TRUE(flushed);
}

class ListeningServerTest : public ServerTest {
 protected:
  void SetUp() override {
    ServerTest::SetUp();
    char name[] = "/tmp/berth-ttrpc-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    auto listener = os::unix_listen(folder_ + "/s");
    ASSERT_TRUE(listener);
    ASSERT_TRUE(server_->listen(std::move(*listener)));
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  Peer connect() {
    auto socket = os::unix_connect(folder_ + "/s", 1s).value();
    EXPECT_TRUE(os::set_nonblocking(socket.get(), true));
    return Peer(*loop_, std::move(socket));
  }
  std::string folder_;
};

TEST_F(ListeningServerTest, AcceptsUntilItStopsListening) {
  std::vector<Peer> peers;
  for (int i = 0; i < 20; ++i) peers.push_back(connect());
  for (Peer& client : peers) {
    client.request(1, "Echo", "x");
    EXPECT_EQ(client.receive().payload, "x");
  }
  EXPECT_EQ(server_->connection_count(), 20U);
  server_->stop_listening();
  EXPECT_EQ(os::unix_connect(folder_ + "/s", 1s).error().code(), Code::kUnavailable);
  peers[0].request(3, "Echo", "y");
  EXPECT_EQ(peers[0].receive().payload, "y");
}

TEST_F(ListeningServerTest, RunningOutOfDescriptorsIsAPauseAndNotASpin) {
  Peer client = connect();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  const UniqueFd next(::dup(client.fd()));
  none.rlim_cur = static_cast<rlim_t>(next.get()) + 1;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  spin(20);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_EQ(errors_.size(), 1U);
  EXPECT_EQ(errors_[0].code(), Code::kExhausted);
  client.request(1, "Echo", "waited");
  EXPECT_EQ(client.receive().payload, "waited");
}

}  // namespace
}  // namespace berth::ttrpc
