#include "cri/stream_server.h"

#include <fcntl.h>

#include <chrono>
#include <thread>

#include "base/log.h"
#include "berth/wkt/wkt.pb.h"
#include "cri/ready_line.h"
#include "cri/shim_process.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "os/socket.h"
#include "ttrpc/typed.h"

namespace berth::cri {

namespace {

namespace sv = ::berth::stream::v1;
using std::chrono::milliseconds;
using Empty = ::berth::wkt::Empty;

constexpr std::string_view kService = "berth.stream.v1.Stream";
constexpr milliseconds kConnect{1'000};
constexpr milliseconds kCall{5'000};
constexpr milliseconds kReady{10'000};
constexpr milliseconds kPause{10};
constexpr int kDrainTries = 200;

}  // namespace

StreamServer::StreamServer(ttrpc::Reactor& reactor, std::string folder, StreamOptions options)
    : reactor_(reactor), folder_(std::move(folder)), options_(std::move(options)) {}

StreamServer::~StreamServer() = default;

std::string StreamServer::control_socket() const {
  return folder_ + "/control.sock";
}

// Whatever makes another server of it.
std::string StreamServer::settings() const {
  return std::string(BERTH_VERSION) + " " + options_.address + " " + std::to_string(options_.port) + " " +
         options_.tls_cert + " " + options_.tls_key;
}

std::shared_ptr<ttrpc::Client> StreamServer::client() {
  const MutexLock lock(mutex_);
  return client_ && client_->alive() ? client_ : nullptr;
}

void StreamServer::use(std::shared_ptr<ttrpc::Client> client) {
  const MutexLock lock(mutex_);
  client_ = std::move(client);
}

Result<std::string> StreamServer::prepare(const sv::PrepareRequest& request) {
  const auto server = client();
  if (!server) return fail(Code::kUnavailable, "berth-stream does not run");
  auto reply =
      ttrpc::call<sv::PrepareResponse>(*server, kService, "Prepare", request, ttrpc::CallOptions::within(kCall));
  if (reply) return std::move(*reply->mutable_url());
  Error error = std::move(reply).error().in("berth-stream");
  if (error.code() != Code::kTimeout && error.code() != Code::kUnavailable) return fail(std::move(error));
  // It has just ended, or hangs: ensure_running() sees which.
  use(nullptr);
  return fail(std::move(error).as(Code::kUnavailable));
}

void StreamServer::take_over() {
  if (!os::exists(control_socket())) return;
  auto server = ttrpc::Client::connect(reactor_, control_socket(), kConnect);
  if (!server) return;  // it has ended: the next session starts another
  const auto info = ask(**server);
  if (info && info->settings() == settings()) use(std::move(*server));
}

void StreamServer::reap() {
  const MutexLock lock(mutex_);
  std::erase_if(children_, [](const os::Child& child) {
    const auto end = os::reap(child.pidfd.get());
    return !end || *end;
  });
}

Result<> StreamServer::ensure_running() {
  if (client()) return {};
  reap();
  auto server = ttrpc::Client::connect(reactor_, control_socket(), kConnect);
  if (!server) return start();
  const auto info = ask(**server);
  if (info && info->settings() == settings()) {
    use(std::move(*server));
    return {};
  }
  if (info) {
    drain(**server);
  } else {
    BERTH_TRY(end_silent(), "a berth-stream that does not answer");
  }
  server->reset();
  return start();
}

Result<sv::InfoResponse> StreamServer::ask(ttrpc::Client& server) {
  return ttrpc::call<sv::InfoResponse>(server, kService, "Info", Empty(), ttrpc::CallOptions::within(kCall));
}

// Its sessions go on; whoever comes now gets the next one.
void StreamServer::drain(ttrpc::Client& server) {
  const auto drained = ttrpc::call<Empty>(server, kService, "Drain", Empty(), ttrpc::CallOptions::within(kCall));
  ignore(drained, "the next one says that its socket is taken");
  for (int tries = 0; tries < kDrainTries && os::unix_connect(control_socket(), kConnect); ++tries) {
    std::this_thread::sleep_for(kPause);
  }
}

// Who listens is told by the kernel. Its sessions hang with it.
Result<> StreamServer::end_silent() {
  const auto socket = os::unix_connect(control_socket(), kConnect);
  if (!socket) return {};  // it has ended meanwhile
  BERTH_ASSIGN(const auto peer, os::peer_credentials(socket->get()), "who it is");
  BERTH_ASSIGN(const UniqueFd process, os::open_pidfd(peer.pid), "its process");
  log_warn("berth-stream does not answer and is killed", {{"pid", peer.pid}});
  return end_process(process.get(), kCall);
}

Result<> StreamServer::start() {
  BERTH_TRY(os::make_dirs(folder_, 0700), "folder");
  const std::string log_path = folder_ + "/stream.log";
  BERTH_ASSIGN(const auto log, os::open_file(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600), "log");
  BERTH_ASSIGN(auto pipe, os::make_pipe(), "pipe");
  os::SpawnOptions spawn;
  spawn.argv = {
      options_.program, "--folder", folder_, "--address", options_.address, "--port", std::to_string(options_.port),
      "--settings",     settings()};
  if (!options_.tls_cert.empty()) {
    spawn.argv.insert(spawn.argv.end(), {"--tls-cert", options_.tls_cert, "--tls-key", options_.tls_key});
  }
  spawn.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  spawn.cwd = "/";
  spawn.new_session = true;
  spawn.fds = {{pipe.write.get(), 1}, {log.get(), 2}};
  BERTH_ASSIGN(os::Child child, os::spawn(spawn), "program");
  pipe.write.reset();
  const auto line = read_ready_line(pipe.read.get(), std::chrono::steady_clock::now() + kReady);
  if (!line) {
    ignore(end_process(child.pidfd.get(), kCall), "the next session tries again");
    return fail(line.error().in("program"));
  }
  if (!*line) {
    ignore(end_process(child.pidfd.get(), kCall), "it has ended, or is about to");
    return fail(Code::kUnavailable, "it ended before it was ready: " + last_words(log_path));
  }
  log_info("berth-stream started", {{"pid", child.pid}, {"url", **line}});
  {
    const MutexLock lock(mutex_);
    children_.push_back(std::move(child));
  }
  BERTH_ASSIGN(auto server, ttrpc::Client::connect(reactor_, control_socket(), kConnect), "connect");
  use(std::move(server));
  return {};
}

}  // namespace berth::cri
