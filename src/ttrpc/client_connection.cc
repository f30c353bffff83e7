#include "ttrpc/client_connection.h"

#include <algorithm>
#include <array>
#include <limits>

#include "os/socket.h"
#include "ttrpc/status.h"
#include "ttrpc/wire.h"

namespace berth::ttrpc {
namespace {

constexpr std::size_t kReadBuffer = 16U << 10;
constexpr int kReadsPerRound = 16;
// Stream ids are odd and only grow; the last ones are not used, so that nothing wraps.
constexpr std::uint32_t kLastId = std::numeric_limits<std::uint32_t>::max() - 2;

RequestView view_of(std::string_view service, std::string_view method, std::string_view payload,
                    const CallOptions& options) {
  RequestView view{service, method, payload, 0, {}};
  if (options.deadline) {
    const std::chrono::nanoseconds left = *options.deadline - std::chrono::steady_clock::now();
    view.timeout_nano = std::max<std::int64_t>(left.count(), 1);
  }
  for (const auto& [key, value] : options.metadata) view.metadata.emplace_back(key, value);
  return view;
}

Result<std::string> result_of(const Frame& frame) {
  if (frame.oversized) {
    return fail(Code::kExhausted, "answer of " + std::to_string(frame.header.length) + " bytes is over the limit");
  }
  const auto response = decode_response(frame.data);
  if (!response) return fail(Error(response.error()).as(Code::kCorrupt));
  if (response->code != 0) return fail(code_of(response->code), std::string(response->message));
  return std::string(response->payload);
}

}  // namespace

ClientConnection::ClientConnection(Reactor& reactor, UniqueFd socket, ClientOptions options)
    : reactor_(reactor), fd_(std::move(socket)), options_(std::move(options)), queue_(options_.max_queue_bytes) {}

void ClientConnection::start() {
  reactor_.post([self = shared_from_this()]() {
    auto watch =
        self->reactor_.loop().add_fd(self->fd_.get(), EPOLLIN, [self](std::uint32_t events) { self->ready(events); });
    if (!watch) return self->disconnect(watch.error());
    self->watch_ = *watch;
    // A call may have filled the socket before the watch was there.
    self->watch_output();
  });
}

Result<std::uint32_t> ClientConnection::begin(std::string_view service, std::string_view method,
                                              std::string_view payload, const CallOptions& options,
                                              Client::Callback callback) {
  BERTH_ASSIGN(std::string frame, encode_request_frame(0, view_of(service, method, payload, options)), "ttrpc request");
  std::uint32_t id = 0;
  bool queued = false;
  {
    MutexLock lock(mutex_);
    if (ended_) return fail(Code::kUnavailable, "the ttrpc connection has ended: " + ended_->text());
    if (pending_.size() >= options_.max_pending) return fail(Code::kExhausted, "too many ttrpc calls in flight");
    if (next_id_ > kLastId) return fail(Code::kUnavailable, "the ttrpc connection has used up its stream ids");
    // Sent under the lock that gave the number: servers insist on growing ids.
    id = next_id_;
    FrameHeader header = decode_header(frame);
    header.stream_id = id;
    const auto bytes = encode_header(header);
    std::copy(bytes.begin(), bytes.end(), frame.begin());
    const bool was_empty = queue_.empty();
    if (auto sent = queue_.send(fd_.get(), frame); !sent) {
      if (sent.error().code() == Code::kExhausted) return fail(std::move(sent).error());
      // The reactor sees the end of the connection and fails the calls under way.
      os::shutdown_socket(fd_.get());
      return fail(std::move(sent).error().as(Code::kUnavailable));
    }
    next_id_ += 2;
    queued = was_empty && !queue_.empty();
    pending_.emplace(id, Pending{std::move(callback), {}});
  }
  if (queued) reactor_.post([self = shared_from_this()]() { self->watch_output(); });
  return id;
}

void ClientConnection::arm(std::uint32_t id, SteadyTime deadline) {
  reactor_.post([self = shared_from_this(), id, deadline]() {
    const std::weak_ptr<ClientConnection> weak = self;
    MutexLock lock(self->mutex_);
    const auto found = self->pending_.find(id);
    if (found == self->pending_.end()) return;
    found->second.timer = self->reactor_.loop().add_timer(deadline - std::chrono::steady_clock::now(), [weak, id]() {
      const auto connection = weak.lock();
      if (!connection) return;
      if (auto pending = connection->take(id)) {
        connection->finish(std::move(*pending), fail(Code::kTimeout, "no answer before the deadline"));
      }
    });
  });
}

std::optional<ClientConnection::Pending> ClientConnection::take(std::uint32_t id) {
  MutexLock lock(mutex_);
  const auto found = pending_.find(id);
  if (found == pending_.end()) return std::nullopt;
  std::optional<Pending> pending(std::move(found->second));
  pending_.erase(found);
  return pending;
}

bool ClientConnection::abandon(std::uint32_t id) {
  return take(id).has_value();
}

void ClientConnection::give_up(std::uint32_t id, Error error) {
  reactor_.post([self = shared_from_this(), id, error = std::move(error)]() {
    if (auto pending = self->take(id)) self->finish(std::move(*pending), fail(error));
  });
}

void ClientConnection::finish(Pending pending, Result<std::string> result) {
  reactor_.loop().cancel(pending.timer);
  pending.callback(std::move(result));
}

void ClientConnection::close() {
  const Error reason(Code::kCancelled, "the connection was closed on this side");
  {
    MutexLock lock(mutex_);
    if (ended_) return;
    ended_ = reason;
  }
  os::shutdown_socket(fd_.get());
  // Not left to the event that the shutdown makes: Reactor::drain() and its destructor count on the order of posts.
  reactor_.post([self = shared_from_this(), reason]() { self->disconnect(reason); });
}

bool ClientConnection::alive() {
  MutexLock lock(mutex_);
  return !ended_;
}

void ClientConnection::ready(std::uint32_t events) {
  const auto self = shared_from_this();
  if ((events & EPOLLOUT) != 0) watch_output();
  if (watch_ != event::kNoWatch && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read_ready();
}

// Sends what is queued and watches for room as long as something is left.
void ClientConnection::watch_output() {
  if (watch_ == event::kNoWatch) return;
  Result<> flushed;
  bool left = false;
  {
    MutexLock lock(mutex_);
    flushed = queue_.flush(fd_.get());
    left = !queue_.empty();
  }
  if (flushed) flushed = reactor_.loop().modify_fd(watch_, left ? EPOLLIN | EPOLLOUT : EPOLLIN);
  if (!flushed) disconnect(flushed.error());
}

void ClientConnection::read_ready() {
  std::array<char, kReadBuffer> buffer;
  for (int i = 0; i < kReadsPerRound; ++i) {
    const auto got = os::receive_some(fd_.get(), buffer);
    if (!got) return disconnect(Error(got.error()).as(Code::kUnavailable));
    if (!*got) return;
    if (**got == 0) return disconnect(Error(Code::kUnavailable, "the peer closed the ttrpc connection"));
    std::string_view input(buffer.data(), **got);
    while (true) {
      const auto next = decoder_.next(input);
      if (!next) return disconnect(next.error());
      if (!*next) break;
      answer(**next);
    }
    if (**got < buffer.size()) return;
  }
}

void ClientConnection::answer(const Frame& frame) {
  if (frame.header.type != FrameType::kResponse) return;  // data of a stream that nobody opened
  // Nothing is pending under the id when the caller has given up: the late answer ends here.
  if (auto pending = take(frame.header.stream_id)) finish(std::move(*pending), result_of(frame));
}

void ClientConnection::disconnect(const Error& reason) {
  if (std::exchange(disconnected_, true)) return;
  reactor_.loop().remove(std::exchange(watch_, event::kNoWatch));
  decoder_ = FrameDecoder();
  std::unordered_map<std::uint32_t, Pending> pending;
  Error why = reason;
  {
    MutexLock lock(mutex_);
    if (ended_) why = *ended_;
    ended_ = why;
    pending.swap(pending_);
    queue_.clear();
  }
  os::shutdown_socket(fd_.get());
  const Code code = why.code() == Code::kCancelled ? Code::kCancelled : Code::kUnavailable;
  for (auto& [id, call] : pending) finish(std::move(call), fail(Error(why).as(code)));
  if (options_.on_disconnect) options_.on_disconnect(why);
}

}  // namespace berth::ttrpc
