#include "shim/pump.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace berth::shim {
namespace {

constexpr std::size_t kNearlyFull = 32U << 10;

}  // namespace

Result<std::unique_ptr<Pump>> Pump::start(event::Loop& loop, Scratch& scratch, UniqueFd source, Sink& sink) {
  const int flags = ::fcntl(source.get(), F_GETFL);
  if (flags < 0 || ::fcntl(source.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return fail_errno(errno, "fcntl O_NONBLOCK");
  std::unique_ptr<Pump> pump(new Pump(loop, scratch, std::move(source), sink));
  Pump* self = pump.get();
  BERTH_ASSIGN(pump->watch_, loop.add_fd(self->source_.get(), EPOLLIN, [self](std::uint32_t) { self->read_once(); }),
               "watch output");
  return pump;
}

Pump::~Pump() {
  loop_.remove(watch_);
}

std::size_t Pump::read_once() {
  const std::span<char> buffer = scratch_.read_buffer();
  // Without a buffer the bytes wait in the pipe; the next event tries again.
  if (buffer.empty() || ended()) return 0;
  const ssize_t count = ::read(source_.get(), buffer.data(), buffer.size());
  if (count > 0) {
    const auto size = static_cast<std::size_t>(count);
    scratch_.used(size);
    if (size >= kNearlyFull && !widened_) widen();
    sink_.write(std::string_view(buffer.data(), size));
    return size;
  }
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  // End of file, or EIO: no process has the terminal open any more.
  end();
  return 0;
}

// The usual 64 KiB are full 1.3 ms after our last look when somebody writes 50 MB/s, and every delay of ours beyond
// that would be theirs. Only for those who write like that: what is in a pipe is the kernel's memory.
void Pump::widen() {
  widened_ = true;
  // No pipe (a terminal), or no more memory for pipes: then it stays as it is.
  (void)::fcntl(source_.get(), F_SETPIPE_SZ, static_cast<int>(kWidePipe));
}

void Pump::drain(std::size_t limit) {
  std::size_t total = 0;
  while (!ended() && total < limit) {
    const std::size_t count = read_once();
    if (count == 0) break;
    total += count;
  }
  sink_.flush();
}

void Pump::end() {
  loop_.remove(watch_);
  watch_ = event::kNoWatch;
  source_.reset();
  sink_.flush();
}

}  // namespace berth::shim
