#include "os/tcp.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

namespace berth::os {

Result<UniqueFd> tcp_listen(const std::string& address, unsigned port, int backlog) {
  if (port > 65535) return fail(Code::kInvalid, "port " + std::to_string(port) + " is above 65535");
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(static_cast<std::uint16_t>(port));
  v6.sin6_family = AF_INET6;
  v6.sin6_port = v4.sin_port;
  const bool is_v4 = ::inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1;
  if (!is_v4 && ::inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) != 1) {
    return fail(Code::kInvalid, "\"" + address + "\" is no IP address");
  }
  const std::string what = "listen on " + address + " port " + std::to_string(port);
  UniqueFd fd(::socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno, what);
  const int one = 1;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0) return fail_errno(errno, what);
  const auto* name = is_v4 ? reinterpret_cast<const sockaddr*>(&v4) : reinterpret_cast<const sockaddr*>(&v6);
  if (::bind(fd.get(), name, is_v4 ? sizeof v4 : sizeof v6) != 0) return fail_errno(errno, what);
  if (::listen(fd.get(), backlog) != 0) return fail_errno(errno, what);
  return fd;
}

Result<unsigned> local_port(int socket_fd) {
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  if (::getsockname(socket_fd, reinterpret_cast<sockaddr*>(&name), &size) != 0) return fail_errno(errno, "getsockname");
  if (name.ss_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&name)->sin_port);
  if (name.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(&name)->sin6_port);
  return fail(Code::kInvalid, "the socket has no port");
}

bool peer_has_closed(int socket_fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(socket_fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
  return info.tcpi_state == TCP_CLOSE_WAIT || info.tcpi_state == TCP_CLOSE || info.tcpi_state == TCP_LAST_ACK;
}

Result<> keep_alive(int socket_fd) {
  constexpr int kOn = 1;
  constexpr int kIdleSeconds = 30;
  constexpr int kIntervalSeconds = 15;
  constexpr int kProbes = 4;
  const auto set = [socket_fd](int level, int name, int value) {
    return ::setsockopt(socket_fd, level, name, &value, sizeof value) == 0;
  };
  if (set(SOL_SOCKET, SO_KEEPALIVE, kOn) && set(IPPROTO_TCP, TCP_KEEPIDLE, kIdleSeconds) &&
      set(IPPROTO_TCP, TCP_KEEPINTVL, kIntervalSeconds) && set(IPPROTO_TCP, TCP_KEEPCNT, kProbes)) {
    return {};
  }
  return fail_errno(errno, "setsockopt SO_KEEPALIVE");
}

}  // namespace berth::os
