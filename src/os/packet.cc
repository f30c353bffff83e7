#include "os/packet.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace berth::os {

namespace {

constexpr std::size_t kMaxFds = 8;

struct ControlBuffer {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> bytes{};
};

/// Owns every descriptor of `message` at once, so that none is lost.
UniqueFd take_fds(msghdr& message) {
  UniqueFd first;
  for (cmsghdr* entry = CMSG_FIRSTHDR(&message); entry != nullptr; entry = CMSG_NXTHDR(&message, entry)) {
    if (entry->cmsg_level != SOL_SOCKET || entry->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (entry->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(entry) + i * sizeof fd, sizeof fd);
      UniqueFd owned(fd);
      if (!first.valid()) first = std::move(owned);
    }
  }
  return first;
}

}  // namespace

Result<std::pair<UniqueFd, UniqueFd>> packet_socketpair() {
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    return fail_errno(errno, "socketpair SOCK_SEQPACKET");
  }
  return std::pair{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Result<> send_packet(int socket_fd, std::string_view bytes) {
  while (true) {
    const ssize_t n = ::send(socket_fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n >= 0) return {};  // whole or not at all
    if (errno != EINTR) return fail_errno(errno, "send a packet of " + std::to_string(bytes.size()) + " bytes");
  }
}

Result<Packet> receive_packet(int socket_fd, std::size_t limit) {
  Packet packet;
  packet.bytes.resize(limit);
  ControlBuffer control;
  iovec part{packet.bytes.data(), limit};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  ssize_t n = 0;
  do {
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    n = ::recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return fail_errno(errno, "receive a packet");
  packet.fd = take_fds(message);
  if ((message.msg_flags & MSG_TRUNC) != 0) {
    return fail(Code::kExhausted, "a packet of more than " + std::to_string(limit) + " bytes");
  }
  if (n == 0) return fail(Code::kUnavailable, "the peer closed the connection", EPIPE);
  packet.bytes.resize(static_cast<std::size_t>(n));
  return packet;
}

}  // namespace berth::os
