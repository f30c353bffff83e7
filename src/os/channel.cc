#include "os/channel.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace berth::os {

namespace {

struct Header {
  std::uint32_t magic;
  std::uint32_t kind;
  std::int32_t code;
  std::int32_t errno_value;
  std::uint32_t text_bytes;
};
constexpr std::uint32_t kMagic = 0x42455248;

/// Room for one descriptor, aligned as cmsg(3) wants it.
struct ControlBuffer {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> bytes{};
};

Result<> send_parts(int socket_fd, std::array<iovec, 2> parts, int fd) {
  ControlBuffer control;
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  if (fd >= 0) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    cmsghdr* const entry = CMSG_FIRSTHDR(&message);
    entry->cmsg_level = SOL_SOCKET;
    entry->cmsg_type = SCM_RIGHTS;
    entry->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(entry), &fd, sizeof fd);
  }
  std::size_t left = parts[0].iov_len + parts[1].iov_len;
  while (left > 0) {
    const ssize_t n = ::sendmsg(socket_fd, &message, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, "send a message");
    }
    left -= static_cast<std::size_t>(n);
    auto sent = static_cast<std::size_t>(n);
    for (auto& part : parts) {
      const std::size_t taken = std::min(sent, part.iov_len);
      part.iov_base = static_cast<char*>(part.iov_base) + taken;
      part.iov_len -= taken;
      sent -= taken;
    }
    message.msg_control = nullptr;
    message.msg_controllen = 0;
  }
  return {};
}

/// Reads exactly `size` bytes; keeps the descriptor that comes with the first of them.
Result<> receive_exactly(int socket_fd, char* data, std::size_t size, UniqueFd& fd) {
  while (size > 0) {
    ControlBuffer control;
    iovec part{data, size};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    const ssize_t n = ::recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
    if (n < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, "receive a message");
    }
    for (cmsghdr* entry = CMSG_FIRSTHDR(&message); entry != nullptr; entry = CMSG_NXTHDR(&message, entry)) {
      if (entry->cmsg_level != SOL_SOCKET || entry->cmsg_type != SCM_RIGHTS) continue;
      int received = -1;
      std::memcpy(&received, CMSG_DATA(entry), sizeof received);
      fd.reset(received);
    }
    if (n == 0) return fail(Code::kUnavailable, "the peer closed the channel", EPIPE);
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return {};
}

}  // namespace

Result<> send_message(int socket_fd, const ChannelMessage& message) {
  const std::size_t text_bytes = std::min(message.text.size(), kMaxChannelText);
  Header header{kMagic, message.kind, message.code, message.errno_value, static_cast<std::uint32_t>(text_bytes)};
  return send_parts(socket_fd,
                    {iovec{&header, sizeof header}, iovec{const_cast<char*>(message.text.data()), text_bytes}},
                    message.fd.get());
}

Result<ChannelMessage> receive_message(int socket_fd) {
  ChannelMessage message;
  Header header{};
  BERTH_TRY(receive_exactly(socket_fd, reinterpret_cast<char*>(&header), sizeof header, message.fd), "channel");
  if (header.magic != kMagic || header.text_bytes > kMaxChannelText) {
    return fail(Code::kCorrupt, "the channel carries something that is no message");
  }
  message.kind = header.kind;
  message.code = header.code;
  message.errno_value = header.errno_value;
  message.text.resize(header.text_bytes);
  BERTH_TRY(receive_exactly(socket_fd, message.text.data(), message.text.size(), message.fd), "channel");
  return message;
}

Result<> send_fd(int socket_fd, int fd, const std::string& text) {
  return send_parts(socket_fd, {iovec{const_cast<char*>(text.data()), text.size()}, iovec{nullptr, 0}}, fd);
}

Result<UniqueFd> receive_fd(int socket_fd) {
  UniqueFd fd;
  char first = 0;
  BERTH_TRY(receive_exactly(socket_fd, &first, 1, fd), "descriptor");
  if (!fd.valid()) return fail(Code::kCorrupt, "a message without a descriptor");
  return fd;
}

}  // namespace berth::os
