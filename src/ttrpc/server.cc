#include "ttrpc/server.h"

#include <algorithm>

#include <unistd.h>

#include "os/socket.h"
#include "ttrpc/server_connection.h"
#include "ttrpc/status.h"

namespace berth::ttrpc {
namespace {

// How long a listener rests when the process is out of descriptors or memory.
constexpr auto kListenPause = std::chrono::milliseconds(100);

}  // namespace

Responder::Responder(Responder&& other) noexcept
    : connection_(std::move(other.connection_)),
      stream_id_(std::exchange(other.stream_id_, 0)),
      deadline_(other.deadline_) {}

Responder& Responder::operator=(Responder&& other) noexcept {
  if (this == &other) return *this;
  error(Error(Code::kInternal, "the call was given up without an answer"));
  connection_ = std::move(other.connection_);
  stream_id_ = std::exchange(other.stream_id_, 0);
  deadline_ = other.deadline_;
  return *this;
}

Responder::~Responder() {
  if (stream_id_ != 0) error(Error(Code::kInternal, "the call was given up without an answer"));
}

void Responder::ok(std::string_view payload) {
  const std::uint32_t id = std::exchange(stream_id_, 0);
  if (id == 0) return;
  if (const auto connection = connection_.lock()) connection->respond(id, 0, {}, payload);
}

void Responder::error(const Error& error) {
  const std::uint32_t id = std::exchange(stream_id_, 0);
  if (id == 0) return;
  if (const auto connection = connection_.lock()) connection->respond(id, status_of(error.code()), error.text(), {});
}

void Responder::respond(const Result<std::string>& result) {
  if (result) return ok(*result);
  error(result.error());
}

bool Responder::wanted() const {
  if (stream_id_ == 0) return false;
  const auto connection = connection_.lock();
  return connection && connection->open();
}

Server::Server(event::Loop& loop, ServerOptions options) : loop_(loop), options_(std::move(options)) {}

Server::~Server() {
  stop_listening();
  flush_waiters_.clear();
  while (!connections_.empty()) connections_.back()->close(nullptr);
}

void Server::handle(std::string service, std::string method, Handler handler) {
  for (const auto& known : methods_) {
    if (known->service == service && known->name == method) {
      known->handler = std::move(handler);
      return;
    }
  }
  methods_.push_back(std::make_unique<Method>(Method{std::move(service), std::move(method), std::move(handler)}));
}

Result<const Server::Handler*> Server::find(std::string_view service, std::string_view method) const {
  bool service_known = false;
  for (const auto& known : methods_) {
    if (known->service != service) continue;
    service_known = true;
    if (known->name == method) return &known->handler;
  }
  // Bounded: the name is the peer's.
  const std::string_view name = (service_known ? method : service).substr(0, 200);
  return fail(Code::kUnsupported, std::string(service_known ? "method " : "service ").append(name));
}

Result<> Server::listen(UniqueFd listener) {
  const int fd = listener.get();
  BERTH_ASSIGN(const event::WatchId watch, loop_.add_fd(fd, EPOLLIN, [this, fd](std::uint32_t) { accept_ready(fd); }),
               "watch the ttrpc listener");
  listeners_.push_back({std::move(listener), watch});
  return {};
}

void Server::stop_listening() {
  loop_.cancel(resume_timer_);
  for (const Listener& listener : listeners_) loop_.remove(listener.watch);
  listeners_.clear();
}

void Server::accept_ready(int listener_fd) {
  auto accepted = os::accept_connection(listener_fd);
  if (!accepted) {
    report(accepted.error().in("accept a ttrpc connection"));
    return pause_listening();
  }
  if (!*accepted) return;
  if (auto added = add_connection(std::move(**accepted)); !added) report(added.error());
}

// The connection that could not be accepted still waits and would wake the loop at once, again and again.
void Server::pause_listening() {
  for (const Listener& listener : listeners_) {
    ignore(loop_.modify_fd(listener.watch, 0), "at worst the loop tries again at once");
  }
  loop_.cancel(resume_timer_);
  resume_timer_ = loop_.add_timer(kListenPause, [this]() {
    for (const Listener& listener : listeners_) {
      if (auto resumed = loop_.modify_fd(listener.watch, EPOLLIN); !resumed) report(resumed.error());
    }
  });
}

Result<> Server::add_connection(UniqueFd socket) {
  if (connections_.size() >= options_.max_connections) return fail(Code::kExhausted, "too many ttrpc connections");
  if (options_.require_same_user) {
    BERTH_ASSIGN(const os::PeerCredentials peer, os::peer_credentials(socket.get()), "ttrpc connection");
    if (peer.uid != ::geteuid()) {
      return fail(Code::kDenied, "ttrpc connection of user " + std::to_string(peer.uid) + " is refused");
    }
  }
  BERTH_TRY(os::set_nonblocking(socket.get(), true), "ttrpc connection");
  const auto connection = std::make_shared<ServerConnection>(*this, std::move(socket));
  BERTH_TRY(connection->start(), "serve");
  connections_.push_back(connection);
  return {};
}

std::size_t Server::connection_count() const {
  return connections_.size();
}

void Server::forget(ServerConnection* connection) {
  std::erase_if(connections_, [connection](const auto& known) { return known.get() == connection; });
}

void Server::when_flushed(std::function<void()> function) {
  flush_waiters_.push_back(std::move(function));
  check_flushed();
}

void Server::check_flushed() {
  if (flush_waiters_.empty()) return;
  const bool all = std::all_of(connections_.begin(), connections_.end(), [](const auto& c) { return c->flushed(); });
  if (!all) return;
  for (auto& waiter : flush_waiters_) loop_.post(std::move(waiter));
  flush_waiters_.clear();
}

void Server::report(const Error& reason) const {
  if (options_.on_connection_error) options_.on_connection_error(reason);
}

}  // namespace berth::ttrpc
