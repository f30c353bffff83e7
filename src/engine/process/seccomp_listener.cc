#include "engine/process/seccomp_listener.h"

#include <csignal>

#include "engine/process/protocol.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "os/seccomp_handover.h"
#include "os/socket.h"
#include "spec/json_text.h"

namespace berth::engine::process {

namespace {

constexpr std::chrono::milliseconds kTimeout{10'000};
constexpr std::chrono::milliseconds kLook{1};

/// The listener's number in the child, whose only way to speak after the load is the page.
Result<int> wait_for_offer(const os::SeccompHandover& page, int channel_fd) {
  const auto end = std::chrono::steady_clock::now() + kTimeout;
  while (std::chrono::steady_clock::now() < end) {
    if (const auto offered = page.offered()) return *offered;
    BERTH_ASSIGN(const bool speaks, os::wait_readable(channel_fd, kLook), "wait for the listener");
    if (!speaks) continue;
    auto message = os::receive_message(channel_fd);
    if (!message) return fail(std::move(message).error().in("wait for the listener"));
    if (message->kind == static_cast<std::uint32_t>(Signal::kError)) return fail(error_of(*message));
    return fail(Code::kInternal, "unexpected message " + std::to_string(message->kind));
  }
  return fail(Code::kTimeout, "the process does not load its filter");
}

Result<> hand_on(const Listening& child, UniqueFd page_fd) {
  const auto& path = child.spec->linux->seccomp->listener_path;
  // First of all, so that a missing supervisor is told before anything depends on it.
  BERTH_ASSIGN(const UniqueFd supervisor, os::unix_connect(path, kTimeout), "listenerPath");
  BERTH_ASSIGN(const auto page, os::SeccompHandover::map(std::move(page_fd)), "listener");
  BERTH_TRY(send_signal(child.channel_fd, Signal::kGo), "listener");
  BERTH_ASSIGN(const int number, wait_for_offer(page, child.channel_fd), "listener");
  BERTH_ASSIGN(const UniqueFd listener, os::pidfd_fetch_fd(child.pidfd, number), "listener");
  BERTH_TRY(os::limit_send_time(supervisor.get(), kTimeout), "listenerPath " + path);
  BERTH_TRY(os::send_fd(supervisor.get(), listener.get(), process_state_json(child)), "listenerPath " + path);
  page.take();
  return {};
}

}  // namespace

Result<> announce_listener(int channel_fd, int page_fd) {
  os::ChannelMessage message;
  message.kind = static_cast<std::uint32_t>(Signal::kListener);
  BERTH_ASSIGN(message.fd, os::dup_fd(page_fd), "listener");
  BERTH_TRY(os::send_message(channel_fd, message), "listener");
  return expect_signal(channel_fd, Signal::kGo);
}

std::string process_state_json(const Listening& child) {
  spec::JsonWriter json;
  json.begin_object().key("ociVersion").string(child.spec->oci_version);
  json.key("fds").begin_array().string("seccompFd").end_array();
  json.key("pid").number(child.pid);
  const auto& metadata = child.spec->linux->seccomp->listener_metadata;
  if (!metadata.empty()) json.key("metadata").string(metadata);
  json.key("state").raw(child.state).end_object();
  return json.take();
}

Result<> serve_listener(const Listening& child, UniqueFd page) {
  auto done = hand_on(child, std::move(page));
  if (!done) ignore(os::pidfd_signal(child.pidfd, SIGKILL), "it may have ended");
  return done;
}

}  // namespace berth::engine::process
