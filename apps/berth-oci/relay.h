#pragma once
#include <termios.h>

#include <optional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/engine.h"
#include "notify_socket.h"

namespace berth::oci {

/// Stands between the caller's terminal and signals and a process in a container, for foreground run and exec.
class Relay final {
 public:
  Relay() = default;
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  Relay(Relay&&) = delete;
  Relay& operator=(Relay&&) = delete;
  /// Gives the caller's terminal its old mode back.
  ~Relay();

  /// From here on signals wait until run() hands them on. Before the process is made, so that none is lost.
  Result<> catch_signals();
  /// Until `process` has ended: signals go to it; with a `console`, stdin and stdout are connected to it, the caller's
  /// terminal is raw, and window sizes follow. Reaps it. Its exit code, or 128 + signal. `notify` (borrowed, may be
  /// null): readiness is handed on meanwhile.
  Result<int> run(const engine::Process& process, UniqueFd console, NotifySocket* notify = nullptr);

 private:
  Result<> hand_on_signals(const engine::Process& process);
  void set_raw();
  void copy_window_size() const;
  void drain_console();
  /// Moves what is there; false at the end of the source.
  static bool copy(int from, int to);

  UniqueFd signals_;
  UniqueFd console_;
  std::optional<termios> old_mode_;
};

}  // namespace berth::oci
