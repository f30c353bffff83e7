#pragma once
#include <cstdint>

#include "base/result.h"
#include "os/channel.h"

namespace berth::engine::process {

/// What the parent and the child that becomes init tell each other.
enum class Signal : std::uint32_t {
  kPid = 1,   ///< child to parent: init's pidfd (fd), when a helper stands between
  kMapUser,   ///< child to parent: write my id maps
  kConsole,   ///< child to parent: the terminal's master (fd)
  kHooks,     ///< child to parent: the mounts are there, run prestart and createRuntime hooks
  kReady,     ///< child to parent: set up, waiting for the start
  kNetwork,   ///< child to parent: my network namespace (fd) is there, move the devices
  kListener,  ///< child to parent: a filter with a listener comes, by this page (fd)
  kWarning,   ///< child to parent: something tolerated (text)
  kError,     ///< child to parent: failed (code, errno, text)
  kGo,        ///< parent to child: go on
  kStart,     ///< parent to child: exec
  kCgroup,    ///< parent to child: your cgroup is there (unasked; before any other)
};

[[nodiscard]] inline Result<> send_signal(int channel_fd, Signal kind, std::string text = {}) {
  os::ChannelMessage message;
  message.kind = static_cast<std::uint32_t>(kind);
  message.text = std::move(text);
  return os::send_message(channel_fd, message);
}

[[nodiscard]] inline Result<> send_error(int channel_fd, const Error& error) {
  os::ChannelMessage message;
  message.kind = static_cast<std::uint32_t>(Signal::kError);
  message.code = static_cast<std::int32_t>(error.code());
  message.errno_value = error.errno_value();
  message.text = error.text();
  return os::send_message(channel_fd, message);
}

[[nodiscard]] inline Error error_of(const os::ChannelMessage& message) {
  const bool known = message.code >= 0 && message.code <= static_cast<std::int32_t>(Code::kInternal);
  return Error(known ? static_cast<Code>(message.code) : Code::kInternal, message.text, message.errno_value);
}

/// Waits for one message and requires it to be `kind`.
[[nodiscard]] inline Result<> expect_signal(int channel_fd, Signal kind) {
  auto message = os::receive_message(channel_fd);
  if (!message) return fail(std::move(message).error());
  if (message->kind != static_cast<std::uint32_t>(kind)) {
    return fail(Code::kInternal, "unexpected message " + std::to_string(message->kind));
  }
  return {};
}

}  // namespace berth::engine::process
