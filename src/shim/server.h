#pragma once
#include <chrono>
#include <string>

#include "base/result.h"
#include "engine/engine.h"

namespace berth::shim {

struct ServeOptions {
  std::string id;  ///< of the pod, or with containerd of the task
  /// The pod's folder: absolute, and the working folder of the process.
  std::string folder;
  /// Where to listen; empty: kSocketName in the folder.
  std::string socket_path{};
  /// containerd's, for its events; empty: nobody is told.
  std::string events_address{};
  std::string name_space{};
  /// How often it looks whether its pod's record is still there.
  std::chrono::seconds record_interval{60};
  int ready_fd = 1;  ///< gets the address and a newline when the socket can be connected to, then /dev/null
};

/// Name of the socket in the pod's folder.
inline constexpr const char* kSocketName = "shim.sock";
[[nodiscard]] std::string socket_address(const std::string& folder);

/// The shim's life: takes on the pod's namespaces, serves until Shutdown. The process must have one thread. `engine`
/// is borrowed. Errors: only before it is ready; what was made till then goes with the process.
[[nodiscard]] Result<> serve(engine::Engine& engine, const ServeOptions& options);

}  // namespace berth::shim
