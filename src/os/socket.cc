#include "os/socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace berth::os {
namespace {

// The address of a socket file. A path longer than sun_path is reached through an O_PATH descriptor of its folder,
// which `folder` keeps open until the address has been used.
struct UnixAddress {
  sockaddr_un address{};
  UniqueFd folder;
};

Result<UnixAddress> unix_address(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos)
    return fail(Code::kInvalid, "socket path is empty or has a NUL");
  UnixAddress result;
  result.address.sun_family = AF_UNIX;
  std::string name = path;
  if (name.size() >= sizeof(result.address.sun_path)) {
    const std::size_t slash = name.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : name.substr(0, slash + 1);
    result.folder.reset(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!result.folder) return fail_errno(errno, "open folder " + folder);
    name = "/proc/self/fd/" + std::to_string(result.folder.get()) + "/" +
           (slash == std::string::npos ? name : name.substr(slash + 1));
    if (name.size() >= sizeof(result.address.sun_path)) return fail(Code::kInvalid, "socket name is too long: " + path);
  }
  std::memcpy(result.address.sun_path, name.data(), name.size());
  return result;
}

const sockaddr* generic(const UnixAddress& address) {
  return reinterpret_cast<const sockaddr*>(&address.address);
}

Result<UniqueFd> new_socket(int extra_flags) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | extra_flags, 0));
  if (!fd) return fail_errno(errno, "socket AF_UNIX");
  return fd;
}

// Removes the socket file of a listener that is gone. Whoever races us for the same path loses or wins the bind that
// follows.
Result<> remove_stale(const UnixAddress& address, const std::string& path) {
  struct stat info{};
  if (::lstat(address.address.sun_path, &info) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno(errno, "lstat " + path);
  }
  if (!S_ISSOCK(info.st_mode)) return fail(Code::kExists, path + " exists and is not a socket", EADDRINUSE);
  BERTH_ASSIGN(const UniqueFd probe, new_socket(SOCK_NONBLOCK), "probe " + path);
  // EAGAIN is a full backlog: somebody listens.
  if (::connect(probe.get(), generic(address), sizeof(address.address)) == 0 || errno == EAGAIN) {
    return fail(Code::kExists, "somebody listens on " + path, EADDRINUSE);
  }
  if (errno == ENOENT) return {};
  if (errno != ECONNREFUSED) return fail_errno(errno, "connect " + path);
  if (::unlink(address.address.sun_path) != 0 && errno != ENOENT) return fail_errno(errno, "unlink " + path);
  return {};
}

}  // namespace

Result<UniqueFd> unix_listen(const std::string& path, const UnixListenOptions& options) {
  BERTH_ASSIGN(const UnixAddress address, unix_address(path), "listen");
  BERTH_ASSIGN(UniqueFd fd, new_socket(SOCK_NONBLOCK), "listen on " + path);
  // The mode of the unbound socket is the mode that bind gives the file, so there is no moment with a wider one.
  if (::fchmod(fd.get(), options.mode) != 0) return fail_errno(errno, "fchmod socket for " + path);
  if (::bind(fd.get(), generic(address), sizeof(address.address)) != 0) {
    if (errno != EADDRINUSE) return fail_errno(errno, "bind " + path);
    BERTH_TRY(remove_stale(address, path), "bind " + path);
    if (::bind(fd.get(), generic(address), sizeof(address.address)) != 0) {
      if (errno == EADDRINUSE) return fail(Code::kExists, "somebody else just bound " + path, EADDRINUSE);
      return fail_errno(errno, "bind " + path);
    }
  }
  if (::listen(fd.get(), options.backlog) != 0) return fail_errno(errno, "listen " + path);
  return fd;
}

Result<UniqueFd> unix_connect(const std::string& path, std::chrono::milliseconds timeout) {
  BERTH_ASSIGN(const UnixAddress address, unix_address(path), "connect");
  BERTH_ASSIGN(UniqueFd fd, new_socket(0), "connect to " + path);
  // connect(2) on a unix socket waits for room in the backlog at most SO_SNDTIMEO; zero there would mean for ever.
  BERTH_TRY(limit_send_time(fd.get(), std::max(timeout, std::chrono::milliseconds(1))), "connect to " + path);
  while (::connect(fd.get(), generic(address), sizeof(address.address)) != 0) {
    const int error = errno;
    if (error == EINTR) continue;
    if (error == EAGAIN) return fail(Code::kTimeout, "connect " + path + ": the backlog stayed full", error);
    return fail_errno(error, "connect " + path);
  }
  BERTH_TRY(limit_send_time(fd.get(), std::chrono::milliseconds(0)), "connect to " + path);
  return fd;
}

Result<std::optional<UniqueFd>> accept_connection(int listener_fd) {
  while (true) {
    const int fd = ::accept4(listener_fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) return std::optional<UniqueFd>(UniqueFd(fd));
    const int error = errno;
    if (error == EINTR) continue;
    if (error == EAGAIN || error == ECONNABORTED) return std::optional<UniqueFd>();
    return fail_errno(error, "accept4");
  }
}

Result<UniqueFd> wait_for_connection(int listener_fd) {
  while (true) {
    const int fd = ::accept4(listener_fd, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) return UniqueFd(fd);
    const int error = errno;
    if (error != EINTR && error != ECONNABORTED) return fail_errno(error, "accept4");
  }
}

Result<std::pair<UniqueFd, UniqueFd>> unix_socketpair(bool nonblocking) {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0, fds) != 0) {
    return fail_errno(errno, "socketpair AF_UNIX");
  }
  return std::pair(UniqueFd(fds[0]), UniqueFd(fds[1]));
}

Result<PeerCredentials> peer_credentials(int socket_fd) {
  ucred raw{};
  socklen_t size = sizeof(raw);
  if (::getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &raw, &size) != 0) {
    return fail_errno(errno, "getsockopt SO_PEERCRED");
  }
  return PeerCredentials{raw.pid, raw.uid, raw.gid};
}

Result<> set_nonblocking(int fd, bool on) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return fail_errno(errno, "fcntl F_GETFL");
  const int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (wanted != flags && ::fcntl(fd, F_SETFL, wanted) != 0) return fail_errno(errno, "fcntl F_SETFL");
  return {};
}

Result<> limit_send_time(int socket_fd, std::chrono::milliseconds timeout) {
  timeval limit{};
  limit.tv_sec = static_cast<time_t>(timeout.count() / 1000);
  limit.tv_usec = static_cast<suseconds_t>(timeout.count() % 1000 * 1000);
  if (::setsockopt(socket_fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0) {
    return fail_errno(errno, "setsockopt SO_SNDTIMEO");
  }
  return {};
}

Result<std::optional<std::size_t>> receive_some(int socket_fd, std::span<char> buffer) {
  while (true) {
    const ssize_t count = ::recv(socket_fd, buffer.data(), buffer.size(), 0);
    if (count >= 0) return std::optional<std::size_t>(static_cast<std::size_t>(count));
    const int error = errno;
    if (error == EINTR) continue;
    if (error == EAGAIN) return std::optional<std::size_t>();
    return fail_errno(error, "recv");
  }
}

Result<std::optional<std::size_t>> send_some(int socket_fd, std::span<const iovec> parts) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts.data());  // sendmsg(2) only reads them
  message.msg_iovlen = parts.size();
  while (true) {
    const ssize_t count = ::sendmsg(socket_fd, &message, MSG_NOSIGNAL);
    if (count >= 0) return std::optional<std::size_t>(static_cast<std::size_t>(count));
    const int error = errno;
    if (error == EINTR) continue;
    if (error == EAGAIN) return std::optional<std::size_t>();
    return fail_errno(error, "sendmsg");
  }
}

void shutdown_socket(int socket_fd) {
  ::shutdown(socket_fd, SHUT_RDWR);
}

Result<UniqueFd> unix_datagram_bind(const std::string& path, mode_t mode) {
  BERTH_ASSIGN(const UnixAddress address, unix_address(path), "bind");
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno, "socket AF_UNIX");
  if (::fchmod(fd.get(), mode) != 0) return fail_errno(errno, "fchmod socket for " + path);
  struct stat info{};
  if (::lstat(address.address.sun_path, &info) == 0 && S_ISSOCK(info.st_mode)) ::unlink(address.address.sun_path);
  if (::bind(fd.get(), generic(address), sizeof(address.address)) != 0) return fail_errno(errno, "bind " + path);
  return fd;
}

Result<> unix_datagram_send(const std::string& path, std::string_view bytes) {
  BERTH_ASSIGN(UnixAddress address, unix_address(path), "send");
  socklen_t size = sizeof(address.address);
  if (path.starts_with('@')) {
    if (path.size() >= sizeof(address.address.sun_path))
      return fail(Code::kInvalid, "socket name is too long: " + path);
    address.address.sun_path[0] = '\0';
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  }
  const UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno(errno, "socket AF_UNIX");
  while (::sendto(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL, generic(address), size) < 0) {
    if (errno != EINTR) return fail_errno(errno, "send to " + path);
  }
  return {};
}

}  // namespace berth::os
