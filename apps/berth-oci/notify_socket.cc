#include "notify_socket.h"

#include <poll.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "base/log.h"
#include "base/strings.h"
#include "os/file.h"
#include "os/socket.h"

namespace berth::oci {

namespace {
constexpr const char* kInside = "/run/notify";
constexpr std::size_t kMessageLimit = 4096;
}  // namespace

std::optional<NotifySocket> NotifySocket::from_environment(const std::string& folder) {
  const char* const manager = ::getenv("NOTIFY_SOCKET");  // NOLINT(concurrency-mt-unsafe): one thread
  if (manager == nullptr || *manager == '\0') return std::nullopt;
  return NotifySocket(manager, folder + "/notify");
}

namespace {
spec::Mount mount_from(const std::string& folder) {
  spec::Mount mount;
  mount.destination = kInside;
  mount.type = "bind";
  mount.source = folder;
  mount.options = {"bind", "nosuid", "noexec", "nodev", "ro"};
  return mount;
}
}  // namespace

std::optional<spec::Mount> NotifySocket::mount_of(const std::string& folder) {
  if (!os::exists(folder + "/notify")) return std::nullopt;
  return mount_from(folder + "/notify");
}

Result<> NotifySocket::prepare(spec::Spec& spec) const {
  // The user inside must be able to walk there, whoever it is; the state folder above is ours alone.
  BERTH_TRY(os::make_dirs(folder_, 0755), "NOTIFY_SOCKET");
  spec.mounts.push_back(mount_from(folder_));
  if (spec.process) {
    std::erase_if(spec.process->env, [](const std::string& entry) { return entry.starts_with("NOTIFY_SOCKET="); });
    spec.process->env.push_back(std::string("NOTIFY_SOCKET=") + kInside + "/notify.sock");
  }
  return {};
}

Result<> NotifySocket::bind() {
  BERTH_ASSIGN(socket_, os::unix_datagram_bind(folder_ + "/notify.sock", 0777), "NOTIFY_SOCKET");
  return {};
}

Result<bool> NotifySocket::hand_on(pid_t pid) {
  std::array<char, kMessageLimit> buffer;
  BERTH_ASSIGN(const auto size, os::receive_some(socket_.get(), buffer), "NOTIFY_SOCKET");
  if (!size) return false;
  for (const auto line : split(std::string_view(buffer.data(), *size), '\n')) {
    if (line != "READY=1") continue;  // nothing else of the container's reaches the manager
    const std::string message = "READY=1\nMAINPID=" + std::to_string(pid) + "\n";
    BERTH_TRY(os::unix_datagram_send(manager_, message), "NOTIFY_SOCKET " + manager_);
    return true;
  }
  return false;
}

Result<> NotifySocket::wait(const engine::Process& process) {
  while (true) {
    std::array<pollfd, 2> entries{{{socket_.get(), POLLIN, 0}, {process.pidfd.get(), POLLIN, 0}}};
    if (::poll(entries.data(), entries.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, "poll");
    }
    if (entries[0].revents != 0) {
      BERTH_ASSIGN(const bool ready, hand_on(process.pid), "wait for readiness");
      if (ready) return {};
      continue;
    }
    if (entries[1].revents != 0) return {};
  }
}

void NotifySocket::wait_and_warn(const engine::Process& process) {
  if (auto done = wait(process); !done) log_warn("readiness is not told", {{"err", done.error().text()}});
}

}  // namespace berth::oci
