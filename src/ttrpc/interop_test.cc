// Our client against containerd's own shim, and our server against the Go client inside that shim (it forwards events).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>

#include "base/strings.h"
#include "os/socket.h"
#include "os/spawn.h"
#include "ttrpc/client.h"
#include "ttrpc/server.h"

namespace berth::ttrpc {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr std::string_view kTask = "containerd.task.v2.Task";
constexpr const char* kRunFolder = "/run/containerd";  // the shim's own choice
constexpr const char* kShim = "/usr/bin/containerd-shim-runc-v2";

// The few protobuf fields that the test needs, short ones only. Source: api/runtime/task/v2/shim.proto of containerd.
std::string text(int field, std::string_view value) {
  return std::string{static_cast<char>(field << 3 | 2), static_cast<char>(value.size())}.append(value);
}
std::string number(int field, int value) {
  return {static_cast<char>(field << 3), static_cast<char>(value)};
}
// The varint fields of a flat message.
std::map<int, std::uint64_t> numbers(std::string_view bytes) {
  std::map<int, std::uint64_t> out;
  const auto varint = [&bytes]() {
    std::uint64_t value = 0;
    for (int shift = 0; !bytes.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes.front());
      bytes.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) break;
    }
    return value;
  };
  while (!bytes.empty()) {
    const auto key = varint();
    const auto value = varint();
    if ((key & 7) == 2) {
      bytes.remove_prefix(std::min<std::size_t>(bytes.size(), value));
    } else {
      out[static_cast<int>(key >> 3)] = value;
    }
  }
  return out;
}

class InteropTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::access(kShim, X_OK) != 0 || ::access("/usr/bin/runc", X_OK) != 0 || ::access("/bin/busybox", X_OK) != 0 ||
        ::geteuid() != 0) {
      GTEST_SKIP() << "needs root, containerd-shim-runc-v2, runc and busybox-static";
    }
    had_run_folder_ = fs::exists(kRunFolder);
    char name[] = "/tmp/berth-interop-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    id_ = folder_.substr(folder_.rfind('/') + 1);
    fs::create_directories(folder_ + "/rootfs/bin");
    fs::copy_file("/bin/busybox", folder_ + "/rootfs/bin/busybox");
    std::ofstream(folder_ + "/config.json") << R"({"ociVersion":"1.0.2","root":{"path":"rootfs"},
      "process":{"cwd":"/","args":["/bin/busybox","sleep","1000"],"user":{"uid":0,"gid":0}},
      "linux":{"cgroupsPath":"/)" << id_ << R"(","namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"}]},
      "mounts":[{"destination":"/proc","type":"proc","source":"proc"}]})";
    // The shim insists on a FIFO for its log with a reader at the other end.
    ASSERT_EQ(::mkfifo((folder_ + "/log").c_str(), 0600), 0);
    log_.reset(::open((folder_ + "/log").c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    ASSERT_TRUE(log_.valid());
    reactor_ = std::move(Reactor::create().value());
    events_thread_ = std::move(Reactor::create().value());
    auto listener = os::unix_listen(folder_ + "/events");
    ASSERT_TRUE(listener);
    events_thread_->post([this, fd = listener->release()]() {
      events_ = std::make_unique<Server>(events_thread_->loop());
      events_->handle("containerd.services.events.ttrpc.v1.Events", "Forward",
                      [this](std::string_view payload, Responder responder) {
                        if (payload.find("/tasks/exit") != std::string_view::npos) exit_event_.set_value();
                        responder.ok({});
                      });
      ASSERT_TRUE(events_->listen(UniqueFd(fd)));
    });
    events_thread_->drain();
  }
  void TearDown() override {
    if (folder_.empty()) return;
    // Gone already unless the test failed half-way.
    if (shim_) ::syscall(SYS_pidfd_send_signal, shim_.get(), SIGKILL, nullptr, 0);
    ignore(shim("delete"), "removes what a failed test left; nothing else to do about it");
    events_thread_->post([this]() { events_.reset(); });
    events_thread_->drain();
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
    if (had_run_folder_) return;
    // remove() takes empty folders only.
    for (const char* made : {"/runc/berth-test", "/runc", "/s", ""})
      fs::remove(std::string(kRunFolder) + made, ignored);
  }
  Result<std::string> shim(const std::string& action) {
    os::RunOptions options;
    options.spawn.argv = {kShim,      "-namespace",      "berth-test",      "-id",       id_,
                          "-address", folder_ + "/none", "-publish-binary", "/bin/true", action};
    options.spawn.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TTRPC_ADDRESS=" + folder_ + "/events", "GOMAXPROCS=2"};
    options.spawn.cwd = folder_;
    options.timeout = 30s;
    BERTH_ASSIGN(os::RunOutput output, os::run(std::move(options)), "shim");
    if (output.exit_code != 0) return fail(Code::kInternal, output.err);
    return std::string(trim(output.out));
  }
  Result<std::string> call(std::string_view method, const std::string& request) {
    return client_->call(kTask, method, request, CallOptions::within(30s));
  }

  bool had_run_folder_ = false;
  std::string folder_;
  std::string id_;
  UniqueFd shim_;
  UniqueFd log_;
  std::unique_ptr<Reactor> reactor_;
  std::unique_ptr<Reactor> events_thread_;
  std::unique_ptr<Server> events_;  // events thread
  std::promise<void> exit_event_;
  std::unique_ptr<Client> client_;
};

TEST_F(InteropTest, DrivesAContainerThroughContainerdsShim) {
  const auto address = shim("start");
  ASSERT_TRUE(address) << address.error().text();
  ASSERT_TRUE(address->starts_with("unix://")) << *address;
  auto connected = Client::connect(*reactor_, address->substr(7), 5s);
  ASSERT_TRUE(connected) << connected.error().text();
  client_ = std::move(*connected);

  const auto info = call("Connect", text(1, id_));
  ASSERT_TRUE(info) << info.error().text();
  shim_.reset(static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(numbers(*info)[1]), 0)));
  ASSERT_TRUE(shim_.valid());

  const auto state = call("State", text(1, "nobody"));
  EXPECT_EQ(state.error().code(), Code::kNotFound) << state.error().text();
  EXPECT_EQ(call("NoSuchMethod", "").error().code(), Code::kUnsupported);
  EXPECT_EQ(client_->call("no.Service", "X", "").error().code(), Code::kUnsupported);

  const auto created = call("Create", text(1, id_) + text(2, folder_));
  EXPECT_TRUE(created) << created.error().text();
  if (created) {
    std::promise<Result<std::string>> waited;
    client_->call_async(kTask, "Wait", text(1, id_),
                        [&](Result<std::string> reply) { waited.set_value(std::move(reply)); });
    const auto started = call("Start", text(1, id_));
    EXPECT_TRUE(started) << started.error().text();
    EXPECT_EQ(client_->call(kTask, "Wait", text(1, id_), CallOptions::within(50ms)).error().code(), Code::kTimeout);
    EXPECT_TRUE(call("Kill", text(1, id_) + number(3, 9)));
    const auto exit = waited.get_future().get();
    ASSERT_TRUE(exit) << exit.error().text();
    EXPECT_EQ(numbers(*exit)[1], 137U);
    EXPECT_TRUE(call("Delete", text(1, id_)));
    EXPECT_EQ(exit_event_.get_future().wait_for(30s), std::future_status::ready) << "no event from the Go client";
  }

  ignore(call("Shutdown", text(1, id_)), "the shim may end before it answers");
  pollfd ended{shim_.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ended, 1, 30000), 1) << "the shim is still there";
  EXPECT_FALSE(fs::exists(address->substr(7)));
}

}  // namespace
}  // namespace berth::ttrpc
