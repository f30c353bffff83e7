#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "base/unique_fd.h"

/// Unix sockets that keep the bounds of messages (SOCK_SEQPACKET), for peers that speak so.
namespace berth::os {

/// Two connected blocking sockets, CLOEXEC. Their credentials, as the other end sees them, are the caller's.
[[nodiscard]] Result<std::pair<UniqueFd, UniqueFd>> packet_socketpair();

struct Packet {
  std::string bytes;
  UniqueFd fd;  ///< the descriptor that came along, CLOEXEC; of several the first, the others are closed
};

/// Sends `bytes` as one message, never raising SIGPIPE. EINTR is retried. kUnavailable when the peer is gone.
[[nodiscard]] Result<> send_packet(int socket_fd, std::string_view bytes);

/// Waits for the next message. Errors: kUnavailable (EPIPE) the peer closed; kExhausted a message of more than `limit`
/// bytes, which is dropped; else by errno. EINTR is retried. An empty message is taken for the end, as the kernel shows
/// both alike.
[[nodiscard]] Result<Packet> receive_packet(int socket_fd, std::size_t limit);

}  // namespace berth::os
