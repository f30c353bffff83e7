#include "ttrpc/client.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <filesystem>
#include <future>
#include <latch>
#include <map>
#include <thread>

#include "os/socket.h"
#include "ttrpc/frame.h"
#include "ttrpc/server.h"
#include "ttrpc/typed.h"
#include "ttrpc/wire.h"

namespace berth::ttrpc {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kService = "test.Service";

// What the templates of typed.h need of a protobuf message.
struct Text {
  std::string value;
  bool SerializeToString(std::string* out) const {
    *out = "T" + value;
    return value != "unserializable";
  }
  bool ParseFromArray(const void* data, int size) {
    const std::string_view bytes(static_cast<const char*>(data), static_cast<std::size_t>(size));
    if (!bytes.starts_with('T')) return false;
    value = bytes.substr(1);
    return true;
  }
};

// A server on its own reactor's thread and a client on another.
class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    server_thread_ = std::move(Reactor::create().value());
    reactor_ = std::move(Reactor::create().value());
    on_server([this]() {
      server_ = std::make_unique<Server>(server_thread_->loop());
      server_->handle(std::string(kService), "Echo",
                      [](std::string_view payload, Responder responder) { responder.ok(payload); });
      server_->handle(std::string(kService), "Fail", [](std::string_view, Responder responder) {
        responder.error(Error(Code::kNotFound, "no such container"));
      });
      server_->handle(std::string(kService), "Park", [this](std::string_view payload, Responder responder) {
        parked_.emplace(std::string(payload), std::move(responder));
      });
      handle_now<Text, Text>(*server_, std::string(kService), "Typed", [](const Text& request) -> Result<Text> {
        if (request.value.empty()) return fail(Code::kPrecondition, "empty");
        return Text{request.value + "!"};
      });
    });
  }
  void TearDown() override {
    client_.reset();
    reactor_->drain();
    on_server([this]() {
      parked_.clear();
      server_.reset();
    });
  }
  void on_server(std::function<void()> function) {
    server_thread_->post(std::move(function));
    server_thread_->drain();
  }
  void connect(ClientOptions options = {}) {
    auto pair = os::unix_socketpair().value();
    on_server([this, fd = pair.first.release()]() { ASSERT_TRUE(server_->add_connection(UniqueFd(fd))); });
    client_ = std::move(Client::adopt(*reactor_, std::move(pair.second), std::move(options)).value());
  }
  // A connection whose other end is the test.
  UniqueFd connect_raw(ClientOptions options = {}) {
    auto pair = os::unix_socketpair().value();
    client_ = std::move(Client::adopt(*reactor_, std::move(pair.second), std::move(options)).value());
    return std::move(pair.first);
  }
  // Waits for the server to hold `count` calls: every request that was sent before is read before a later one is
  // answered.
  void wait_parked(std::size_t count) {
    ASSERT_TRUE(client_->call(kService, "Echo", "fence", CallOptions::within(20s)));
    std::size_t seen = 0;
    on_server([&]() { seen = parked_.size(); });
    ASSERT_EQ(seen, count);
  }
  static std::string read_frame(int fd) {
    std::string bytes;
    std::size_t want = kHeaderSize;
    while (bytes.size() < want) {
      char buffer[4096];
      const auto got = os::receive_some(fd, {buffer, std::min(sizeof(buffer), want - bytes.size())});
      if (!got || !*got || **got == 0) return {};
      bytes.append(buffer, **got);
      if (bytes.size() >= kHeaderSize) want = kHeaderSize + decode_header(bytes).length;
    }
    return bytes;
  }
  static void write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
      const iovec part{const_cast<char*>(bytes.data()), bytes.size()};
      const auto sent = os::send_some(fd, {&part, 1});
      ASSERT_TRUE(sent && *sent);
      bytes.remove_prefix(**sent);
    }
  }

  std::unique_ptr<Reactor> server_thread_;
  std::unique_ptr<Reactor> reactor_;
  std::map<std::string, Responder> parked_;  // server thread
  std::unique_ptr<Server> server_;           // server thread
  std::unique_ptr<Client> client_;
};

TEST_F(ClientTest, CallsAndErrors) {
  connect();
  EXPECT_EQ(client_->call(kService, "Echo", "hello", CallOptions::within(20s)).value(), "hello");
  const auto failed = client_->call(kService, "Fail", "");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), Code::kNotFound);
  EXPECT_EQ(failed.error().text(), "no such container");
  EXPECT_EQ(client_->call(kService, "Nothing", "").error().code(), Code::kUnsupported);
  const std::string large(kMaxData - 100, 'x');
  EXPECT_EQ(client_->call(kService, "Echo", large).value(), large);
  EXPECT_EQ(client_->call(kService, "Echo", std::string(kMaxData, 'x')).error().code(), Code::kExhausted);
  EXPECT_EQ(client_->call(kService, "Echo", "still").value(), "still");
}

TEST_F(ClientTest, HundredThreadsShareOneConnection) {
  connect();
  std::latch go(100);
  std::atomic<int> good = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 100; ++i) {
    threads.emplace_back([&, i]() {
      go.arrive_and_wait();
      for (int n = 0; n < 20; ++n) {
        const std::string payload = std::to_string(i) + "." + std::string(static_cast<std::size_t>(n * 100), 'x');
        const auto reply = client_->call(kService, "Echo", payload, CallOptions::within(60s));
        if (reply && *reply == payload) ++good;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 2000);
}

TEST_F(ClientTest, ALateAnswerIsDroppedAndTheConnectionGoesOn) {
  connect();
  EXPECT_EQ(client_->call(kService, "Park", "a", CallOptions::within(20ms)).error().code(), Code::kTimeout);
  wait_parked(1);
  on_server([this]() {
    EXPECT_TRUE(parked_.at("a").deadline());
    parked_.at("a").ok("late");
  });
  EXPECT_EQ(client_->call(kService, "Echo", "next").value(), "next");
  EXPECT_TRUE(client_->alive());
}

TEST_F(ClientTest, StopEndsTheWait) {
  connect();
  std::stop_source stop;
  auto waiting = std::async(std::launch::async, [this, token = stop.get_token()]() {
    CallOptions options = CallOptions::within(60s);
    options.stop = token;
    return client_->call(kService, "Park", "a", options);
  });
  while (true) {
    std::size_t seen = 0;
    on_server([&]() { seen = parked_.size(); });
    if (seen == 1) break;
  }
  stop.request_stop();
  EXPECT_EQ(waiting.get().error().code(), Code::kCancelled);
  CallOptions stopped;
  stopped.stop = stop.get_token();
  EXPECT_EQ(client_->call(kService, "Echo", "x", stopped).error().code(), Code::kCancelled);
  EXPECT_EQ(client_->call(kService, "Echo", "x").value(), "x");
}

TEST_F(ClientTest, PeerDeathWakesEveryCaller) {
  std::promise<Error> ended;
  ClientOptions options;
  options.on_disconnect = [&ended](const Error& reason) { ended.set_value(reason); };
  connect(std::move(options));
  std::vector<std::future<Result<std::string>>> waiting;
  for (int i = 0; i < 10; ++i) {
    waiting.push_back(
        std::async(std::launch::async, [this, i]() { return client_->call(kService, "Park", std::to_string(i)); }));
  }
  std::promise<Result<std::string>> async;
  client_->call_async(kService, "Park", "async",
                      [&async](Result<std::string> reply) { async.set_value(std::move(reply)); });
  std::size_t seen = 0;
  while (seen < 11) on_server([&]() { seen = parked_.size(); });
  on_server([this]() { server_.reset(); });
  for (auto& call : waiting) EXPECT_EQ(call.get().error().code(), Code::kUnavailable);
  EXPECT_EQ(async.get_future().get().error().code(), Code::kUnavailable);
  EXPECT_EQ(ended.get_future().get().code(), Code::kUnavailable);
  EXPECT_FALSE(client_->alive());
  EXPECT_EQ(client_->call(kService, "Echo", "").error().code(), Code::kUnavailable);
}

TEST_F(ClientTest, ParkedCallsCostNoThreads) {
  connect();
  const auto threads = []() {
    return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
  };
  const auto before = threads();
  std::latch answered(500);
  std::atomic<int> good = 0;
  for (int i = 0; i < 500; ++i) {
    const CallId id = client_->call_async(kService, "Park", std::to_string(i), [&, i](Result<std::string> reply) {
      if (reply && *reply == "exit " + std::to_string(i)) ++good;
      answered.count_down();
    });
    EXPECT_NE(id, CallId{0});
  }
  wait_parked(500);
  EXPECT_EQ(threads(), before);
  on_server([this]() {
    for (auto& [name, responder] : parked_) responder.ok("exit " + name);
  });
  answered.wait();
  EXPECT_EQ(good, 500);
}

TEST_F(ClientTest, AsyncDeadlineAndCancel) {
  connect();
  std::promise<Result<std::string>> late;
  client_->call_async(
      kService, "Park", "late", [&](Result<std::string> r) { late.set_value(std::move(r)); },
      CallOptions::within(10ms));
  EXPECT_EQ(late.get_future().get().error().code(), Code::kTimeout);
  std::promise<Result<std::string>> cancelled;
  const CallId id = client_->call_async(kService, "Park", "cancel",
                                        [&](Result<std::string> r) { cancelled.set_value(std::move(r)); });
  client_->cancel(id);
  client_->cancel(id);
  EXPECT_EQ(cancelled.get_future().get().error().code(), Code::kCancelled);
  std::promise<Result<std::string>> in_time;
  client_->call_async(
      kService, "Echo", "x", [&](Result<std::string> r) { in_time.set_value(std::move(r)); }, CallOptions::within(1h));
  EXPECT_EQ(in_time.get_future().get().value(), "x");
  wait_parked(2);
  on_server([this]() {
    parked_.at("late").ok("");
    parked_.at("cancel").ok("");
  });
  EXPECT_TRUE(client_->call(kService, "Echo", ""));
}

TEST_F(ClientTest, CallbacksMayCallAgainButNotBlock) {
  connect();
  std::promise<std::pair<Code, std::string>> done;
  client_->call_async(kService, "Echo", "1", [&](Result<std::string> first) {
    const Code code = client_->call(kService, "Echo", "x").error().code();
    client_->call_async(kService, "Echo", *first + "2",
                        [&done, code](Result<std::string> second) { done.set_value({code, *second}); });
  });
  EXPECT_EQ(done.get_future().get(), (std::pair(Code::kPrecondition, std::string("12"))));
}

TEST_F(ClientTest, CloseFailsWhatIsUnderWayAndDrainSeesItThrough) {
  connect();
  int calls = 0;
  for (int i = 0; i < 5; ++i) {
    client_->call_async(kService, "Park", std::to_string(i), [&calls](Result<std::string> reply) {
      EXPECT_EQ(reply.error().code(), Code::kCancelled);
      ++calls;
    });
  }
  client_->close();
  client_->close();
  EXPECT_FALSE(client_->alive());
  client_.reset();
  reactor_->drain();
  EXPECT_EQ(calls, 5);
}

TEST_F(ClientTest, DestroyingTheReactorAfterTheClientRunsTheCallbacks) {
  connect();
  bool ran = false;
  client_->call_async(kService, "Park", "x", [&ran](Result<std::string>) { ran = true; });
  client_.reset();
  reactor_ = std::move(Reactor::create().value());
  EXPECT_TRUE(ran);
}

TEST_F(ClientTest, ACallbackMayDestroyItsClient) {
  connect();
  std::promise<void> gone;
  client_->call_async(kService, "Echo", "x", [&](Result<std::string>) {
    client_.reset();
    gone.set_value();
  });
  gone.get_future().wait();
  reactor_->drain();
}

TEST_F(ClientTest, LimitsAreErrorsOfTheCallAlone) {
  ClientOptions options;
  options.max_pending = 1;
  options.max_queue_bytes = 1 << 20;
  const UniqueFd raw = connect_raw(std::move(options));
  std::promise<Result<std::string>> first;
  client_->call_async(kService, "Park", std::string(3 << 20, 'x'),
                      [&](Result<std::string> r) { first.set_value(std::move(r)); });
  EXPECT_EQ(client_->call(kService, "Echo", "x").error().code(), Code::kExhausted);
  const std::string request = read_frame(raw.get());
  EXPECT_GT(request.size(), 3U << 20) << "the part that the socket did not take at once arrives later";
  write_all(raw.get(), encode_response_frame(1, {0, "", "ok"}).value());
  EXPECT_EQ(first.get_future().get().value(), "ok");
}

TEST_F(ClientTest, AFullQueueIsAnErrorOfTheCallAlone) {
  ClientOptions options;
  options.max_queue_bytes = 1 << 20;
  const UniqueFd raw = connect_raw(std::move(options));
  client_->call_async(kService, "Park", std::string(3 << 20, 'x'), [](Result<std::string>) {});
  EXPECT_EQ(client_->call(kService, "Echo", std::string(1 << 20, 'y')).error().code(), Code::kExhausted);
  EXPECT_EQ(decode_header(read_frame(raw.get())).stream_id, 1U);
  client_->call_async(kService, "Echo", "small", [](Result<std::string>) {});
  EXPECT_EQ(decode_header(read_frame(raw.get())).stream_id, 3U) << "a refused call uses up no number";
}

TEST_F(ClientTest, HostileAnswers) {
  const UniqueFd raw = connect_raw();
  auto call = [this]() {
    return std::async(std::launch::async, [this]() { return client_->call(kService, "Echo", ""); });
  };
  auto waiting = call();
  std::uint32_t id = decode_header(read_frame(raw.get())).stream_id;
  const auto bad = encode_header({1, id, FrameType::kResponse, 0});
  write_all(raw.get(), encode_response_frame(id + 2, {0, "", "for nobody"}).value());
  write_all(raw.get(), encode_response_frame(id + 1, {0, "", "for nobody"}).value());
  const auto data = encode_header({0, id, FrameType::kData, 0});
  write_all(raw.get(), {data.data(), data.size()});
  write_all(raw.get(), std::string(bad.data(), bad.size()) + "\x0a");
  EXPECT_EQ(waiting.get().error().code(), Code::kCorrupt);
  waiting = call();
  id = decode_header(read_frame(raw.get())).stream_id;
  const auto oversized = encode_header({kMaxData + 1, id, FrameType::kResponse, 0});
  write_all(raw.get(), std::string(oversized.data(), oversized.size()) + std::string(kMaxData + 1, 'x'));
  EXPECT_EQ(waiting.get().error().code(), Code::kExhausted);
  waiting = call();
  id = decode_header(read_frame(raw.get())).stream_id;
  write_all(raw.get(), encode_response_frame(id, {0, "", "fine"}).value());
  EXPECT_EQ(waiting.get().value(), "fine");
  waiting = call();
  read_frame(raw.get());
  write_all(raw.get(), "HTTP/1.1 400 Bad Request\r\n");
  EXPECT_EQ(waiting.get().error().code(), Code::kUnavailable);
  EXPECT_FALSE(client_->alive());
}

TEST_F(ClientTest, SendsDeadlineAndMetadata) {
  const UniqueFd raw = connect_raw();
  CallOptions options = CallOptions::within(5s);
  options.metadata = {{"containerd-namespace-ttrpc", "k8s.io"}};
  client_->call_async(kService, "Echo", "p", [](Result<std::string>) {}, options);
  const std::string frame = read_frame(raw.get());
  const auto request = decode_request(std::string_view(frame).substr(kHeaderSize));
  ASSERT_TRUE(request);
  EXPECT_EQ(decode_header(frame).stream_id, 1U);
  EXPECT_EQ(decode_header(frame).flags, 0);
  EXPECT_GT(request->timeout_nano, 0);
  EXPECT_LE(request->timeout_nano, std::chrono::nanoseconds(5s).count());
  ASSERT_EQ(request->metadata.size(), 1U);
  EXPECT_EQ(request->metadata[0].second, "k8s.io");
}

TEST_F(ClientTest, TypedCalls) {
  connect();
  EXPECT_EQ((call<Text>(*client_, kService, "Typed", Text{"hi"}).value().value), "hi!");
  EXPECT_EQ((call<Text>(*client_, kService, "Typed", Text{""}).error().code()), Code::kPrecondition);
  EXPECT_EQ((call<Text>(*client_, kService, "Typed", Text{"unserializable"}).error().code()), Code::kInvalid);
  EXPECT_EQ(client_->call(kService, "Typed", "no text").error().code(), Code::kInvalid);
  std::promise<Result<Text>> reply;
  call_async<Text>(*client_, kService, "Typed", Text{"later"}, [&](Result<Text> r) { reply.set_value(std::move(r)); });
  EXPECT_EQ(reply.get_future().get().value().value, "later!");
}

TEST_F(ClientTest, ConnectsByPath) {
  EXPECT_EQ(Client::connect(*reactor_, "/tmp/berth-no-such-socket", 1s).error().code(), Code::kNotFound);
  char folder[] = "/tmp/berth-ttrpc-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string path = std::string(folder) + "/s";
  auto listener = os::unix_listen(path);
  ASSERT_TRUE(listener);
  on_server([this, fd = listener->release()]() { ASSERT_TRUE(server_->listen(UniqueFd(fd))); });
  auto connected = Client::connect(*reactor_, path, 1s);
  ASSERT_TRUE(connected) << connected.error().text();
  EXPECT_EQ((*connected)->call(kService, "Echo", "x").value(), "x");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace berth::ttrpc
