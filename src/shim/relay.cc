#include "shim/relay.h"

#include <unistd.h>

#include <cerrno>

#include "base/log.h"
#include "os/socket.h"

namespace berth::shim {
namespace {

constexpr std::size_t kChunk = 16U << 10;

}  // namespace

Result<std::unique_ptr<Relay>> Relay::start(event::Loop& loop, Scratch& scratch, UniqueFd from, UniqueFd to) {
  BERTH_TRY(os::set_nonblocking(from.get(), true), "relay source");
  BERTH_TRY(os::set_nonblocking(to.get(), true), "relay target");
  std::unique_ptr<Relay> relay(new Relay(loop, scratch, std::move(from), std::move(to)));
  Relay* self = relay.get();
  BERTH_ASSIGN(relay->from_watch_,
               loop.add_fd(self->from_.get(), EPOLLIN, [self](std::uint32_t) { self->move_some(); }),
               "watch relay source");
  return relay;
}

Relay::~Relay() {
  loop_.remove(from_watch_);
  loop_.remove(to_watch_);
}

std::size_t Relay::move_some() {
  if (!from_.valid() || !pending_.empty()) return 0;
  const std::span<char> buffer = scratch_.read_buffer();
  if (buffer.empty()) return 0;
  const ssize_t count = ::read(from_.get(), buffer.data(), std::min(kChunk, buffer.size()));
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (count <= 0) {
    end();
    return 0;
  }
  const auto size = static_cast<std::size_t>(count);
  scratch_.used(size);
  const ssize_t written = ::write(to_.get(), buffer.data(), size);
  if (written < 0 && errno != EAGAIN && errno != EINTR) {
    end();
    return 0;
  }
  const std::size_t taken = written > 0 ? static_cast<std::size_t>(written) : 0;
  if (taken < size) {
    pending_.assign(buffer.data() + taken, size - taken);
    wait_for_room();
  }
  return taken;
}

void Relay::wait_for_room() {
  auto watch = loop_.add_fd(to_.get(), EPOLLOUT, [this](std::uint32_t) { send_pending(); });
  if (!watch) {
    log_warn("stdio relay ended", {{"err", watch.error().text()}});
    return end();
  }
  to_watch_ = *watch;
  // A hang-up cannot be masked, so the watch goes altogether.
  loop_.remove(from_watch_);
  from_watch_ = event::kNoWatch;
}

void Relay::send_pending() {
  const ssize_t written = ::write(to_.get(), pending_.data(), pending_.size());
  if (written < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (written <= 0) return end();
  pending_.erase(0, static_cast<std::size_t>(written));
  if (!pending_.empty()) return;
  std::string().swap(pending_);
  loop_.remove(to_watch_);
  to_watch_ = event::kNoWatch;
  auto watch = loop_.add_fd(from_.get(), EPOLLIN, [this](std::uint32_t) { move_some(); });
  if (!watch) {
    log_warn("stdio relay ended", {{"err", watch.error().text()}});
    return end();
  }
  from_watch_ = *watch;
}

void Relay::drain(std::size_t limit) {
  std::size_t total = 0;
  while (total < limit) {
    const std::size_t count = move_some();
    if (count == 0) return;
    total += count;
  }
}

void Relay::end() {
  loop_.remove(from_watch_);
  loop_.remove(to_watch_);
  from_watch_ = to_watch_ = event::kNoWatch;
  from_.reset();
  to_.reset();
  std::string().swap(pending_);
}

}  // namespace berth::shim
