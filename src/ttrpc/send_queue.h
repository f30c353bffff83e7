#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace berth::ttrpc {

/// The bytes that a non-blocking socket has not taken yet. Holds no memory while empty. Not thread-safe.
class SendQueue final {
 public:
  explicit SendQueue(std::size_t limit = 8U << 20) : limit_(limit) {}
  void set_limit(std::size_t bytes) { limit_ = bytes; }

  /// Sends `bytes` behind what is queued; what the socket does not take is queued.
  /// Errors: kExhausted more than the limit would be queued, and nothing of `bytes` was sent; kUnavailable the peer is
  /// gone; else by errno.
  [[nodiscard]] Result<> send(int socket_fd, std::string_view bytes);
  /// Sends from the queue what the socket takes.
  [[nodiscard]] Result<> flush(int socket_fd);
  [[nodiscard]] std::size_t size() const { return bytes_.size() - sent_; }
  [[nodiscard]] bool empty() const { return size() == 0; }
  void clear();

 private:
  std::size_t limit_;
  std::string bytes_;
  std::size_t sent_ = 0;
};

}  // namespace berth::ttrpc
