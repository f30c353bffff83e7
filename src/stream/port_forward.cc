#include "stream/port_forward.h"

#include <utility>

#include "base/log.h"
#include "base/strings.h"

namespace berth::stream {
namespace {

// Connections that wait for their second stream, and all others.
constexpr std::size_t kMaxConnections = 1000;
// What a connection may send before it has an error stream, where errors would be told. Clients open that one first.
constexpr std::size_t kMaxEarly = 256U << 10;

}  // namespace

PortForward::PortForward(SessionContext context, SessionSpec spec, std::shared_ptr<Wire> wire)
    : context_(std::move(context)), spec_(std::move(spec)), wire_(std::move(wire)) {}

void PortForward::start() {
  session_ = std::make_shared<SpdySession>(wire_, shared_from_this());
  netns_ = std::make_unique<PodNetns>(
      context_, spec_,
      [weak = weak_from_this()](const Result<>& ready) {
        const auto self = weak.lock();
        if (!self || !self->session_) return;
        if (!ready) {
          log_warn("port forward ended", {{"err", ready.error().text()}});
          self->session_->close();
          return self->on_gone(ready.error());
        }
        self->ready_ = true;
        self->pause(false);
        // One that fails at once leaves the map.
        std::vector<std::uint32_t> waiting;
        for (const auto& [request, connection] : self->connections_) waiting.push_back(connection.data_stream);
        for (const std::uint32_t data : waiting) {
          Connection* const connection = data == 0 ? nullptr : self->of_data(data);
          if (connection != nullptr) self->begin(*connection);
        }
      },
      [weak = weak_from_this()] {
        const auto self = weak.lock();
        if (!self || !self->session_) return;
        self->session_->close();
        self->on_gone(Error(Code::kUnavailable, "the pod has ended"));
      });
  wire_->start(session_);
  // What comes before the namespace is there stays in the connection, but for what is being read already.
  pause(true);
}

void PortForward::on_stream(std::uint32_t id, const SpdyHeaders& headers) {
  const std::string_view type = spdy_header(headers, "streamtype");
  const auto port = parse_number<std::uint16_t>(spdy_header(headers, "port"));
  // Clients before Kubernetes 1.3 name no request: the data stream follows its error stream.
  std::string request(spdy_header(headers, "requestid"));
  if (request.empty()) request = "stream " + std::to_string(type == "data" && id > 2 ? id - 2 : id);
  const bool good = port && *port != 0 && (type == "error" || type == "data");
  if (!good || (connections_.size() >= kMaxConnections && !connections_.contains(request))) return session_->reset(id);
  Connection& connection = connections_[request];
  std::uint32_t& place = type == "error" ? connection.error_stream : connection.data_stream;
  if (place != 0 || (connection.port != 0 && connection.port != *port)) return session_->reset(id);
  place = id;
  connection.port = *port;
  session_->accept_stream(id);
  if (connection.error_stream != 0 && connection.data_stream != 0 && ready_) begin(connection);
}

void PortForward::begin(Connection& connection) {
  if (connection.forward || connection.error_stream == 0) return;
  const std::uint32_t data = connection.data_stream;
  Forward::Hooks hooks;
  hooks.bytes = [weak = weak_from_this(), data](std::string_view bytes) {
    const auto self = weak.lock();
    if (self && self->session_) self->session_->send(data, bytes, false);
  };
  hooks.has_room = [weak = weak_from_this()] {
    const auto self = weak.lock();
    return self && self->session_ && self->session_->unsent() < Wire::kHighWater;
  };
  hooks.ended = [weak = weak_from_this(), data](const std::string& error) {
    if (const auto self = weak.lock(); self) self->ended(data, error);
  };
  hooks.pause = [weak = weak_from_this()](bool paused) {
    if (const auto self = weak.lock(); self) self->pause(paused);
  };
  hooks.limit = [weak = weak_from_this()] {
    const auto self = weak.lock();
    return Forward::share_of(self ? self->connections_.size() : 1);
  };
  hooks.over = [weak = weak_from_this(), data] {
    const auto self = weak.lock();
    if (!self) return;
    // No news for a client that has ended it, too.
    if (self->session_) self->session_->reset(data);
    std::erase_if(self->connections_, [data](const auto& entry) { return entry.second.data_stream == data; });
  };
  connection.forward = std::make_shared<Forward>(context_.io, connection.port, std::move(hooks));
  // A reference of our own: what fails at once ends the connection.
  const auto forward = connection.forward;
  const std::string early = std::exchange(connection.early, {});
  const bool early_end = connection.early_end;
  forward->start(netns_->fd());
  if (!early.empty()) forward->write(early);
  if (early_end) forward->end();
}

// The client waits for the end of the error stream before it closes its own side.
void PortForward::ended(std::uint32_t data_stream, const std::string& error) {
  Connection* const connection = of_data(data_stream);
  if (connection == nullptr || !session_) return;
  if (!error.empty()) {
    session_->send(connection->error_stream, "error forwarding port " + std::to_string(connection->port) + ": " + error,
                   true);
    return session_->reset(data_stream);
  }
  session_->send(data_stream, {}, true);
  session_->send(connection->error_stream, {}, true);
}

void PortForward::pause(bool paused) {
  pausing_ += paused ? 1U : -1U;
  if (session_) session_->pause(pausing_ > 0);
}

PortForward::Connection* PortForward::of_data(std::uint32_t id) {
  for (auto& [request, connection] : connections_) {
    if (connection.data_stream == id) return &connection;
  }
  return nullptr;
}

void PortForward::on_data(std::uint32_t id, std::string_view bytes) {
  Connection* const connection = of_data(id);
  if (connection == nullptr) return;
  // A reference of our own: it may leave the map.
  if (const auto forward = connection->forward; forward) return forward->write(bytes);
  if (connection->early.size() + bytes.size() > kMaxEarly) {
    session_->reset(id);
    return on_reset(id);
  }
  connection->early.append(bytes);
}

void PortForward::on_end(std::uint32_t id) {
  Connection* const connection = of_data(id);
  if (connection == nullptr) return;
  connection->early_end = true;
  if (const auto forward = connection->forward; forward) forward->end();
}

void PortForward::on_reset(std::uint32_t id) {
  for (auto at = connections_.begin(); at != connections_.end(); ++at) {
    Connection& connection = at->second;
    if (connection.data_stream != id && connection.error_stream != id) continue;
    // The error stream alone may go: there was nothing to say.
    if (connection.data_stream != id && connection.forward) return;
    if (connection.forward) connection.forward->stop();
    if (session_) session_->send(connection.error_stream, {}, true);
    connections_.erase(at);
    return;
  }
}

void PortForward::on_writable() {
  // A copy: whoever goes on may end.
  std::vector<std::shared_ptr<Forward>> forwards;
  for (const auto& [request, connection] : connections_) {
    if (connection.forward) forwards.push_back(connection.forward);
  }
  for (const auto& forward : forwards) forward->resume();
}

void PortForward::on_gone(const Error& /*why*/) {
  session_.reset();
  netns_.reset();
  const auto connections = std::exchange(connections_, {});
  for (const auto& [request, connection] : connections) {
    if (connection.forward) connection.forward->stop();
  }
}

}  // namespace berth::stream
