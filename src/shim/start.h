#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/external/external_engine.h"
#include "engine/process/process_engine.h"

namespace berth::shim {

/// The `start` command: runs this program's `serve` in a session of its own and returns its address when it is ready.
/// The server's log goes to shim.log in `folder`. `argv`: of the server, with the program's name first. On failure the
/// error has what the server said.
[[nodiscard]] Result<std::string> start_server(std::vector<std::string> argv, const std::string& folder);

/// The `delete` command: removes what a shim that is gone left of its containers (Leftovers), and its socket. Returns
/// the DeleteResponse as bytes. Idempotent. Errors: those of the engine; the other containers are removed all the same.
/// `external`: the pod's engine, when it is one; borrowed, or nullptr. `only`: of containerd, whose bundle `folder` is:
/// the one container to clear, recorded or not; empty: all.
[[nodiscard]] Result<std::string> clear_dead_shim(engine::process::ProcessEngine& engine,
                                                  engine::external::ExternalEngine* external, const std::string& folder,
                                                  const std::string& only = {});

}  // namespace berth::shim
