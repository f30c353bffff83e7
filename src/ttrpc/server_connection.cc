#include "ttrpc/server_connection.h"

#include <array>

#include "os/socket.h"
#include "ttrpc/status.h"
#include "ttrpc/wire.h"

namespace berth::ttrpc {
namespace {

// On the stack of a process whose resident pages are counted: small.
constexpr std::size_t kReadBuffer = 4096;
// Reads of one connection before the others get their turn.
constexpr int kReadsPerRound = 16;
// A connection with more unsent bytes is not read from: its own answers hold it back before the limit closes it.
constexpr std::size_t kHighWater = 256U << 10;

}  // namespace

Result<> ServerConnection::start() {
  queue_.set_limit(server_->options_.max_queue_bytes);
  interest_ = EPOLLIN;
  auto watch = server_->loop_.add_fd(fd_.get(), interest_,
                                     [self = shared_from_this()](std::uint32_t events) { self->ready(events); });
  if (!watch) return fail(std::move(watch).error().in("watch a ttrpc connection"));
  watch_ = *watch;
  return {};
}

void ServerConnection::close(const Error* reason) {
  if (!open()) return;
  Server* server = std::exchange(server_, nullptr);
  const auto self = shared_from_this();
  server->loop_.remove(watch_);
  queue_.clear();
  fd_.reset();
  decoder_ = FrameDecoder();
  held_ = {};
  server->forget(this);
  if (reason != nullptr) server->report(*reason);
  server->check_flushed();
}

void ServerConnection::ready(std::uint32_t events) {
  const auto self = shared_from_this();
  if ((events & EPOLLOUT) != 0) {
    if (auto flushed = queue_.flush(fd_.get()); !flushed) return close(&flushed.error());
    update_interest();
    if (open() && queue_.empty()) server_->check_flushed();
  }
  if (!open()) return;
  if ((interest_ & EPOLLIN) == 0) {
    if ((events & (EPOLLHUP | EPOLLERR)) == 0) return;
    const Error gone(Code::kUnavailable, "the peer went away without reading its answers");
    return close(&gone);
  }
  if (!held_.empty()) {
    const std::string held = std::exchange(held_, {});
    consume(held);
  }
  if (open() && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && held_.empty()) read_ready();
}

void ServerConnection::read_ready() {
  std::array<char, kReadBuffer> buffer;
  for (int i = 0; i < kReadsPerRound; ++i) {
    const auto got = os::receive_some(fd_.get(), buffer);
    if (!got) return close(&got.error());
    if (!*got) return;
    if (**got == 0) {
      if (decoder_.at_boundary()) return close(nullptr);
      const Error cut(Code::kInvalid, "the connection ended inside a frame");
      return close(&cut);
    }
    consume({buffer.data(), **got});
    if (!open()) return;
    // A short read emptied the socket: one receive per small request instead of two.
    if (**got < buffer.size() || (interest_ & EPOLLIN) == 0) return;
  }
}

void ServerConnection::consume(std::string_view input) {
  while (true) {
    // The answers to one buffer of small requests can be large: hold the rest back like what is still in the socket.
    if ((interest_ & EPOLLIN) == 0) {
      held_.assign(input);
      return;
    }
    const auto next = decoder_.next(input);
    if (!next) return close(&next.error());
    if (!*next) return;
    frame(**next);
    if (!open()) return;
  }
}

void ServerConnection::frame(const Frame& frame) {
  const std::uint32_t id = frame.header.stream_id;
  if (frame.oversized) {
    return send(
        id, status_of(Code::kExhausted),
        "message length " + std::to_string(frame.header.length) + " exceeds the maximum of " + std::to_string(kMaxData),
        {});
  }
  if (frame.header.type == FrameType::kRequest) return request(frame);
  // Every stream here is unary, so its client has nothing more to say. Other frame types are left to the future.
  if (frame.header.type == FrameType::kData) return send(id, status_of(Code::kInvalid), "stream takes no data", {});
}

void ServerConnection::request(const Frame& frame) {
  const std::uint32_t id = frame.header.stream_id;
  if (id % 2 == 0) return send(id, status_of(Code::kInvalid), "stream id of a client must be odd", {});
  if ((frame.header.flags & kFlagRemoteOpen) != 0) {
    return send(id, status_of(Code::kUnsupported), "streaming calls are not served", {});
  }
  const auto request = decode_request(frame.data);
  if (!request) return send(id, status_of(Code::kInvalid), request.error().text(), {});
  const auto handler = server_->find(request->service, request->method);
  if (!handler) return send(id, status_of(handler.error().code()), handler.error().text(), {});
  if (in_flight_ >= server_->options_.max_in_flight) {
    return send(id, status_of(Code::kExhausted), "too many calls in flight on this connection", {});
  }
  ++in_flight_;
  std::optional<SteadyTime> deadline;
  if (request->timeout_nano > 0) {
    const SteadyTime now = std::chrono::steady_clock::now();
    const auto timeout = std::chrono::nanoseconds(request->timeout_nano);
    if (timeout < SteadyTime::max() - now) deadline = now + timeout;
  }
  (**handler)(request->payload, Responder(weak_from_this(), id, deadline));
}

void ServerConnection::respond(std::uint32_t stream_id, std::int32_t status, std::string_view message,
                               std::string_view payload) {
  if (!open()) return;
  --in_flight_;
  send(stream_id, status, message, payload);
}

void ServerConnection::send(std::uint32_t stream_id, std::int32_t status, std::string_view message,
                            std::string_view payload) {
  if (!open()) return;
  auto bytes = encode_response_frame(stream_id, {status, message, payload});
  if (!bytes) bytes = encode_response_frame(stream_id, {status_of(Code::kExhausted), bytes.error().text(), {}});
  if (auto sent = queue_.send(fd_.get(), *bytes); !sent) return close(&sent.error());
  update_interest();
}

void ServerConnection::update_interest() {
  const std::uint32_t wanted = (queue_.size() < kHighWater ? EPOLLIN : 0U) | (queue_.empty() ? 0U : EPOLLOUT);
  if (wanted == interest_) return;
  if (auto changed = server_->loop_.modify_fd(watch_, wanted); !changed) return close(&changed.error());
  interest_ = wanted;
}

}  // namespace berth::ttrpc
