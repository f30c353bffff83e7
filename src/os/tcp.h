#pragma once
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::os {

/// A non-blocking listening TCP socket on the numeric IPv4 or IPv6 `address`; port 0 lets the kernel choose.
/// Connections are taken by accept_connection() (os/socket.h). Errors: kInvalid no address; else by errno. Source:
/// tcp(7).
[[nodiscard]] Result<UniqueFd> tcp_listen(const std::string& address, unsigned port, int backlog = 128);

/// The port that an IPv4 or IPv6 socket is bound to.
[[nodiscard]] Result<unsigned> local_port(int socket_fd);

/// Whether the peer of a TCP connection has ended its side, though nobody has read so far. Source: tcp(7), TCP_INFO.
[[nodiscard]] bool peer_has_closed(int socket_fd);

/// Lets the kernel notice within about a minute and a half that the peer has vanished. Source: tcp(7), SO_KEEPALIVE.
[[nodiscard]] Result<> keep_alive(int socket_fd);

}  // namespace berth::os
