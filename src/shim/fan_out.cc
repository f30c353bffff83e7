#include "shim/fan_out.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

namespace berth::shim {
namespace {

bool reader_is_gone(int fifo) {
  pollfd poll{fifo, 0, 0};
  return ::poll(&poll, 1, 0) > 0 && (poll.revents & POLLERR) != 0;
}

// All of it, at once. A part that went in is the last that this reader gets: a gap would be worse than an end.
bool give(int fifo, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fifo, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace

void FanOut::write(std::string_view bytes) {
  own_->write(bytes);
  std::erase_if(watchers_, [bytes](const UniqueFd& fifo) { return !give(fifo.get(), bytes); });
}

std::size_t FanOut::watchers() {
  std::erase_if(watchers_, [](const UniqueFd& fifo) { return reader_is_gone(fifo.get()); });
  return watchers_.size();
}

}  // namespace berth::shim
