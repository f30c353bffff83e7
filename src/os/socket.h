#pragma once
#include <sys/types.h>
#include <sys/uio.h>

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::os {

struct UnixListenOptions {
  mode_t mode = 0600;  ///< permission bits of the socket file; the umask takes more away
  int backlog = 128;
};

/// Makes a non-blocking listening stream socket at `path`; a socket file there on which nobody listens is replaced.
/// `path`: absolute or relative to the working folder, no NUL, not empty; longer than sun_path is fine.
/// The caller owns the descriptor and later removes the file. Errors: kInvalid bad path; kExists somebody listens there
/// or the file is no socket; else by errno. Does not block on a live peer. Source: unix(7).
[[nodiscard]] Result<UniqueFd> unix_listen(const std::string& path, const UnixListenOptions& options = {});

/// Connects a blocking stream socket to `path` (shape as for unix_listen). Blocks while the peer's backlog is full, at
/// most `timeout`. Errors: kNotFound no file; kUnavailable nobody listens; kTimeout; kDenied; else by errno.
[[nodiscard]] Result<UniqueFd> unix_connect(const std::string& path, std::chrono::milliseconds timeout);

/// Accepts one connection of a non-blocking listener; the new descriptor is CLOEXEC and non-blocking.
/// Nothing when no connection waits, or the waiting one is gone again. Errors: kExhausted EMFILE, ENFILE, ENOMEM (the
/// connection still waits, so a level-triggered watch fires again at once); else by errno.
[[nodiscard]] Result<std::optional<UniqueFd>> accept_connection(int listener_fd);

/// Waits for a connection on a blocking listener; the new descriptor is CLOEXEC and blocking. Errors: by errno.
[[nodiscard]] Result<UniqueFd> wait_for_connection(int listener_fd);

/// Two connected stream sockets, CLOEXEC, both non-blocking if `nonblocking`.
[[nodiscard]] Result<std::pair<UniqueFd, UniqueFd>> unix_socketpair(bool nonblocking = false);

struct PeerCredentials {
  pid_t pid = 0;  ///< 0 when the peer lives in a pid namespace that we do not see
  uid_t uid = 0;
  gid_t gid = 0;
};
/// Who connected (or called listen) at the other end of a unix stream socket, as of that moment.
[[nodiscard]] Result<PeerCredentials> peer_credentials(int socket_fd);

[[nodiscard]] Result<> set_nonblocking(int fd, bool on);

/// SO_SNDTIMEO: a send, or a connect, that the peer keeps waiting fails with EAGAIN after `timeout`; 0 waits for ever.
/// Source: socket(7).
[[nodiscard]] Result<> limit_send_time(int socket_fd, std::chrono::milliseconds timeout);

/// Receives at most `buffer.size()` bytes. 0 means end of stream; nothing means that a non-blocking socket has no bytes
/// now. EINTR is retried. Errors: kUnavailable ECONNRESET; else by errno.
[[nodiscard]] Result<std::optional<std::size_t>> receive_some(int socket_fd, std::span<char> buffer);

/// Sends what the socket takes of `parts` (at most IOV_MAX), never raising SIGPIPE. Nothing means that a non-blocking
/// socket is full. EINTR is retried. Errors: kUnavailable EPIPE, ECONNRESET; else by errno.
[[nodiscard]] Result<std::optional<std::size_t>> send_some(int socket_fd, std::span<const iovec> parts);

/// Binds a non-blocking datagram socket at `path` (shape as for unix_listen); whatever socket file is there is
/// replaced. `mode`: its permission bits. The caller removes the file. Source: unix(7).
[[nodiscard]] Result<UniqueFd> unix_datagram_bind(const std::string& path, mode_t mode);

/// Sends `bytes` as one datagram from a socket of its own; a receiver's full queue is waited for. `path`: as for
/// unix_listen, or "@name" for an abstract address, which service managers use. Errors: kNotFound, kUnavailable nobody
/// receives there; else by errno. Source: sd_notify(3).
[[nodiscard]] Result<> unix_datagram_send(const std::string& path, std::string_view bytes);

/// Ends both directions of a connection for every holder of the socket; a peer that is gone already is no failure.
void shutdown_socket(int socket_fd);

}  // namespace berth::os
