#pragma once
#include <optional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/engine.h"

namespace berth::oci {

/// Readiness of the program for a service manager: where the runtime itself has NOTIFY_SOCKET, the container gets a
/// socket of its own in its place, and its READY=1 is handed on with the container's pid as MAINPID. The program never
/// sees the manager's socket. Source: sd_notify(3); runc's behaviour, which podman and systemd units rely on.
class NotifySocket final {
 public:
  /// What the environment asks for; nothing without NOTIFY_SOCKET. `folder`: the container's state folder.
  static std::optional<NotifySocket> from_environment(const std::string& folder);

  /// The mount that prepare() adds, if it was called for the container of `folder`: for those who need the
  /// configuration as it was in force.
  static std::optional<spec::Mount> mount_of(const std::string& folder);
  /// At creation: makes the socket's folder and adds its mount and variable to `spec`.
  Result<> prepare(spec::Spec& spec) const;
  /// Before start: opens the socket.
  Result<> bind();
  /// Readable when the container has said something; -1 before bind().
  [[nodiscard]] int fd() const { return socket_.get(); }
  /// Takes what was said. True when it was READY=1, which is then handed on with `pid`.
  Result<bool> hand_on(pid_t pid);
  /// Blocks until READY=1 was handed on or the process has ended. A manager that cannot be reached is a warning: the
  /// program runs all the same.
  void wait_and_warn(const engine::Process& process);

 private:
  Result<> wait(const engine::Process& process);
  NotifySocket(std::string manager, std::string folder) : manager_(std::move(manager)), folder_(std::move(folder)) {}

  std::string manager_;
  std::string folder_;
  UniqueFd socket_;
};

}  // namespace berth::oci
