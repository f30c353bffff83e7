#pragma once
#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::os {

/// One message between a program and the child that it forked (or another process of ours on the same host): same
/// architecture and byte order, text at most kMaxChannelText bytes (longer is cut), at most one descriptor.
struct ChannelMessage {
  std::uint32_t kind = 0;
  std::int32_t code = 0;
  std::int32_t errno_value = 0;
  std::string text;
  UniqueFd fd;
};
constexpr std::size_t kMaxChannelText = 4096;

/// Sends over a blocking unix stream socket. `message.fd` is sent along, and stays the caller's. Never raises SIGPIPE.
/// kUnavailable when the peer is gone.
Result<> send_message(int socket_fd, const ChannelMessage& message);

/// Waits for the next message. kUnavailable at the end of the stream (EPIPE), which a peer's exit or exec brings.
/// kCorrupt for anything that is no message. A received descriptor is CLOEXEC.
Result<ChannelMessage> receive_message(int socket_fd);

/// Sends `fd` and `text` as one plain message: the form in which runtimes hand a terminal to --console-socket.
Result<> send_fd(int socket_fd, int fd, const std::string& text);
/// The descriptor (CLOEXEC) that a message of that form carries; its text is dropped. kUnavailable at the end of the
/// stream, kCorrupt when none comes with the first byte.
Result<UniqueFd> receive_fd(int socket_fd);

}  // namespace berth::os
