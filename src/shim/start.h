#pragma once
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/process/process_engine.h"

namespace berth::shim {

/// The `start` command: runs this program's `serve` in a session of its own and returns its address when it is ready.
/// The server's log goes to shim.log in `folder`. `argv`: of the server, with the program's name first. On failure the
/// error has what the server said.
[[nodiscard]] Result<std::string> start_server(std::vector<std::string> argv, const std::string& folder);

/// Removes what a dead shim left of a container whose runtime is not ours.
using ClearContainer =
    std::function<Result<>(const std::string& id, const std::string& bundle, const std::string& cgroup_path)>;

/// The `delete` command: removes what a shim that is gone left of its containers (Leftovers), and its socket. Returns
/// the DeleteResponse as bytes. Idempotent. Errors: those of the engine; the other containers are removed all the same.
/// `clear`: of the pod's engine, where it is not ours; may be empty. `only`: of containerd, whose bundle `folder` is:
/// the one container to clear, recorded or not; empty: all.
[[nodiscard]] Result<std::string> clear_dead_shim(engine::process::ProcessEngine& engine, const ClearContainer& clear,
                                                  const std::string& folder, const std::string& only = {});

}  // namespace berth::shim
