#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/process/process_engine.h"

namespace berth::shim {

/// The `start` command: runs this program's `serve` in a session of its own and returns its address when it is ready.
/// The server's log goes to shim.log in `folder`. `argv`: of the server, with the program's name first. On failure the
/// error has what the server said.
[[nodiscard]] Result<std::string> start_server(std::vector<std::string> argv, const std::string& folder);

/// The `delete` command: removes what a shim that is gone left of its containers (Leftovers), and its socket. Returns
/// the DeleteResponse as bytes. Idempotent. Errors: those of the engine; the other containers are removed all the same.
[[nodiscard]] Result<std::string> clear_dead_shim(engine::process::ProcessEngine& engine, const std::string& folder);

}  // namespace berth::shim
