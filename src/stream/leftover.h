#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "ttrpc/client.h"

namespace berth::stream {

/// An exec that a session made on a shim.
struct Leftover {
  std::string shim_socket;
  std::string container_id;
  std::string exec_id;
};

/// Writes into the session's folder what it makes on the shim. Errors: by errno.
[[nodiscard]] Result<> note_leftover(const std::string& session_folder, const Leftover& leftover);

/// Removes folders of sessions that a server before us left when it was killed, and their execs; not those that a
/// server which drains still holds. One whose shim does not answer stays for the next start. Blocks, a few seconds for
/// each shim that hangs.
void remove_leftovers(ttrpc::Reactor& reactor, const std::vector<std::string>& session_folders);

}  // namespace berth::stream
