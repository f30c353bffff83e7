#include "base/log.h"

#include <utility>

#include "stream/port_forward.h"

namespace berth::stream {

WebSocketPortForward::WebSocketPortForward(SessionContext context, SessionSpec spec, std::shared_ptr<Wire> wire)
    : context_(std::move(context)), spec_(std::move(spec)), wire_(std::move(wire)) {}

void WebSocketPortForward::start() {
  wire_->start(shared_from_this());
  // What comes before the ports are connected stays in the connection, but for what is being read already.
  wire_->pause(true);
  netns_ = std::make_unique<PodNetns>(
      context_, spec_,
      [weak = weak_from_this()](const Result<>& ready) {
        const auto self = weak.lock();
        if (!self || !self->wire_) return;
        if (!ready) {
          log_warn("port forward ended", {{"err", ready.error().text()}});
          return self->finish();
        }
        self->begin();
      },
      [weak = weak_from_this()] {
        if (const auto self = weak.lock(); self) self->finish();
      });
}

void WebSocketPortForward::begin() {
  running_ = spec_.ports.size();
  for (std::size_t index = 0; index < spec_.ports.size(); ++index) {
    const std::uint16_t port = spec_.ports[index];
    const std::string number = {static_cast<char>(port & 0xff), static_cast<char>(port >> 8)};
    send(2 * index, number);
    send(2 * index + 1, number);
    Forward::Hooks hooks;
    hooks.bytes = [weak = weak_from_this(), index](std::string_view bytes) {
      if (const auto self = weak.lock(); self) self->send(2 * index, bytes);
    };
    hooks.has_room = [weak = weak_from_this()] {
      const auto self = weak.lock();
      return self && self->wire_ && self->wire_->unsent() < Wire::kHighWater;
    };
    hooks.ended = [weak = weak_from_this(), index](const std::string& error) {
      if (const auto self = weak.lock(); self) self->ended(index, error);
    };
    hooks.pause = [weak = weak_from_this()](bool paused) {
      const auto self = weak.lock();
      if (!self || !self->wire_) return;
      self->pausing_ += paused ? 1U : -1U;
      self->wire_->pause(self->pausing_ > 0);
    };
    hooks.limit = [count = spec_.ports.size()] { return Forward::share_of(count); };
    forwards_.push_back(std::make_shared<Forward>(context_.io, port, std::move(hooks)));
  }
  const auto forwards = forwards_;
  for (const auto& forward : forwards) forward->start(netns_->fd());
  for (const auto& [bytes, first] : std::exchange(early_, {})) on_bytes(bytes, first);
  if (wire_) wire_->pause(pausing_ > 0);
}

void WebSocketPortForward::ended(std::size_t index, const std::string& error) {
  if (!error.empty()) {
    send(2 * index + 1, "error forwarding port " + std::to_string(spec_.ports[index]) + ": " + error);
  }
  if (--running_ == 0) finish();
}

void WebSocketPortForward::send(std::size_t channel, std::string_view bytes) {
  if (!wire_) return;
  std::string message;
  message.reserve(1 + bytes.size());
  message.push_back(static_cast<char>(channel));
  message.append(bytes);
  wire_->send(std::move(message));
}

void WebSocketPortForward::on_bytes(std::string_view bytes, bool first) {
  if (forwards_.empty()) {
    early_.emplace_back(bytes, first);
    return;
  }
  if (first) {
    // No channel of ours: what follows is dropped.
    channel_ = 1;
    if (bytes.empty()) return;
    channel_ = static_cast<unsigned char>(bytes.front());
    bytes.remove_prefix(1);
  }
  const std::size_t index = channel_ / 2;
  if (channel_ % 2 != 0 || index >= forwards_.size() || bytes.empty()) return;
  const auto forward = forwards_[index];
  forward->write(bytes);
}

void WebSocketPortForward::on_writable() {
  const auto forwards = forwards_;
  for (const auto& forward : forwards) forward->resume();
}

void WebSocketPortForward::finish() {
  const auto wire = std::exchange(wire_, nullptr);
  if (!wire) return;
  on_gone(Error(Code::kCancelled, "over"));
  wire->close();
}

void WebSocketPortForward::on_gone(const Error& /*why*/) {
  wire_.reset();
  const auto forwards = std::exchange(forwards_, {});
  for (const auto& forward : forwards) forward->stop();
  netns_.reset();
}

}  // namespace berth::stream
