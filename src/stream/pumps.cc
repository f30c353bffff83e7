#include "stream/pumps.h"

#include <unistd.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <utility>

#include "stream/wire.h"

namespace berth::stream {
namespace {

using boost::system::error_code;
namespace asio = boost::asio;

// Others of the thread get their turn; and whoever writes on after the end is not followed for ever.
constexpr std::size_t kReadsPerTurn = 8;
constexpr std::size_t kDrainReads = 32;

}  // namespace

OutputPump::OutputPump(asio::io_context& io, UniqueFd fifo, Hooks hooks)
    : fifo_(io, fifo.release()), hooks_(std::move(hooks)) {
  fifo_.non_blocking(true);
}

void OutputPump::resume() {
  if (!waiting_) wait();
}

// Waits and then reads itself: a read of asio's might be done, and its callback still to come, when drain() reads.
void OutputPump::wait() {
  if (ended_ || !fifo_.is_open() || !hooks_.has_room()) return;
  waiting_ = true;
  fifo_.async_wait(asio::posix::stream_descriptor::wait_read, [self = shared_from_this()](const error_code& error) {
    self->waiting_ = false;
    if (!error) self->read_some();
  });
}

void OutputPump::read_some() {
  for (std::size_t round = 0; round < kReadsPerTurn; ++round) {
    if (!read_once()) break;
    if (!hooks_.has_room || !hooks_.has_room()) return;
  }
  wait();
}

bool OutputPump::read_once() {
  if (ended_ || !fifo_.is_open()) return false;
  std::array<char, 64U << 10> buffer;
  const ssize_t count = ::read(fifo_.native_handle(), buffer.data(), buffer.size());
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (count <= 0) {
    end();
    return false;
  }
  hooks_.bytes(std::string_view(buffer.data(), static_cast<std::size_t>(count)));
  return true;
}

void OutputPump::drain() {
  for (std::size_t round = 0; round < kDrainReads; ++round) {
    if (!read_once()) return;
  }
}

void OutputPump::end() {
  ended_ = true;
  error_code ignored;
  (void)fifo_.close(ignored);
  if (hooks_.ended) hooks_.ended();
}

void OutputPump::stop() {
  error_code ignored;
  (void)fifo_.close(ignored);
  hooks_ = {};
}

InputPump::InputPump(asio::io_context& io, UniqueFd fifo, Hooks hooks)
    : fifo_(io, fifo.release()), hooks_(std::move(hooks)) {
  fifo_.non_blocking(true);
}

void InputPump::write(std::string_view bytes) {
  if (over_ || ending_) return;
  pending_.append(bytes);
  if (pending_.size() > Wire::kHighWater && !paused_) {
    paused_ = true;
    hooks_.pause(true);
  }
  write_more();
}

void InputPump::end() {
  ending_ = true;
  write_more();
}

void InputPump::write_more() {
  if (busy_ || over_) return;
  if (written_ == writing_.size()) {
    writing_.clear();
    written_ = 0;
    if (pending_.empty()) {
      if (ending_) finish();
      return;
    }
    writing_.swap(pending_);
    if (paused_) {
      paused_ = false;
      hooks_.pause(false);
    }
  }
  busy_ = true;
  fifo_.async_write_some(asio::buffer(writing_.data() + written_, writing_.size() - written_),
                         [self = shared_from_this()](const error_code& error, std::size_t count) {
                           self->busy_ = false;
                           if (self->over_) return;
                           if (error) return self->finish();
                           self->written_ += count;
                           self->write_more();
                         });
}

void InputPump::finish() {
  over_ = true;
  error_code ignored;
  (void)fifo_.close(ignored);
  std::string().swap(pending_);
  const Hooks hooks = std::exchange(hooks_, {});
  // What nobody reads is not waited for.
  if (paused_ && hooks.pause) hooks.pause(false);
  if (hooks.ended) hooks.ended();
}

void InputPump::stop() {
  over_ = true;
  error_code ignored;
  (void)fifo_.close(ignored);
  hooks_ = {};
}

}  // namespace berth::stream
