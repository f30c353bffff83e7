#include "ttrpc/send_queue.h"

#include <sys/uio.h>

#include <algorithm>

#include "os/socket.h"

namespace berth::ttrpc {
namespace {

// Sends until the socket is full; the number of bytes that it took.
Result<std::size_t> send_now(int socket_fd, std::string_view bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const iovec part{const_cast<char*>(bytes.data()) + done, bytes.size() - done};  // sendmsg(2) only reads it
    BERTH_ASSIGN(const auto sent, os::send_some(socket_fd, {&part, 1}), "send");
    if (!sent) break;
    done += *sent;
  }
  return done;
}

}  // namespace

void SendQueue::clear() {
  std::string().swap(bytes_);
  sent_ = 0;
}

Result<> SendQueue::send(int socket_fd, std::string_view bytes) {
  // One message always fits, whatever its size: with an empty queue it is the socket that decides.
  if (!empty() && bytes.size() > limit_ - std::min(limit_, size())) {
    return fail(Code::kExhausted, std::to_string(size()) + " bytes are waiting for a peer that does not read");
  }
  if (empty()) {
    BERTH_ASSIGN(const std::size_t done, send_now(socket_fd, bytes), "ttrpc");
    bytes.remove_prefix(done);
    if (bytes.empty()) return {};
  }
  if (sent_ > bytes_.size() / 2) {
    bytes_.erase(0, sent_);
    sent_ = 0;
  }
  bytes_.append(bytes);
  return {};
}

Result<> SendQueue::flush(int socket_fd) {
  BERTH_ASSIGN(const std::size_t done, send_now(socket_fd, std::string_view(bytes_).substr(sent_)), "ttrpc");
  sent_ += done;
  if (empty()) clear();
  return {};
}

}  // namespace berth::ttrpc
