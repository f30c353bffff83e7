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

Result<std::string> StreamServer::prepare(const sv::PrepareRequest& request) {
  Result<sv::PrepareResponse> reply = fail(Code::kUnavailable, "not tried");
  // Twice: a server that has just ended is noticed by the call that fails.
  for (int tries = 0; tries < 2; ++tries) {
    BERTH_ASSIGN(const auto client, running(), "berth-stream");
    reply = ttrpc::call<sv::PrepareResponse>(*client, kService, "Prepare", request, ttrpc::CallOptions::within(kCall));
    if (reply) return std::move(*reply->mutable_url());
    if (reply.error().code() != Code::kUnavailable) break;
    forget(client);
  }
  return fail(std::move(reply).error().in("berth-stream"));
}

Result<std::shared_ptr<ttrpc::Client>> StreamServer::running() {
  const MutexLock lock(mutex_);
  if (client_ && client_->alive()) return client_;
  client_.reset();
  auto connected = connect();
  ignore(connected, "then it is started");
  if (!client_) BERTH_TRY(start(), "start");
  return client_;
}

void StreamServer::forget(const std::shared_ptr<ttrpc::Client>& client) {
  const MutexLock lock(mutex_);
  if (client_ == client) client_.reset();
}

void StreamServer::take_over() {
  const MutexLock lock(mutex_);
  if (!os::exists(control_socket())) return;
  auto connected = connect();
  ignore(connected, "it has ended, or ends: the next session starts another");
}

void StreamServer::reap() {
  const MutexLock lock(mutex_);
  std::erase_if(children_, [](const os::Child& child) {
    const auto end = os::reap(child.pidfd.get());
    return !end || *end;
  });
}

Result<> StreamServer::connect() {
  BERTH_ASSIGN(auto client, ttrpc::Client::connect(reactor_, control_socket(), kConnect), "berth-stream");
  client_ = std::move(client);
  return replace_if_other();
}

Result<> StreamServer::replace_if_other() {
  const auto info =
      ttrpc::call<sv::InfoResponse>(*client_, kService, "Info", Empty(), ttrpc::CallOptions::within(kCall));
  if (info && info->settings() == settings()) return {};
  // Its sessions go on; whoever comes now gets the new one.
  const auto drained = ttrpc::call<Empty>(*client_, kService, "Drain", Empty(), ttrpc::CallOptions::within(kCall));
  ignore(drained, "a server that does not answer is replaced as well");
  client_.reset();
  for (int tries = 0; tries < kDrainTries && os::unix_connect(control_socket(), kConnect); ++tries) {
    std::this_thread::sleep_for(kPause);
  }
  return fail(Code::kUnavailable, "the server that runs was started with other settings");
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
  BERTH_ASSIGN(children_.emplace_back(), os::spawn(spawn), "program");
  const os::Child& child = children_.back();
  pipe.write.reset();
  const auto line = read_ready_line(pipe.read.get(), std::chrono::steady_clock::now() + kReady);
  if (!line) {
    ignore(end_process(child.pidfd.get(), kCall), "the next session tries again");
    return fail(line.error().in("program"));
  }
  if (!*line) return fail(Code::kUnavailable, "it ended before it was ready: " + last_words(log_path));
  log_info("berth-stream started", {{"pid", child.pid}, {"url", **line}});
  BERTH_ASSIGN(auto client, ttrpc::Client::connect(reactor_, control_socket(), kConnect), "connect");
  client_ = std::move(client);
  return {};
}

}  // namespace berth::cri
