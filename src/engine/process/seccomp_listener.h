#pragma once
#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "spec/runtime.h"

namespace berth::engine::process {

/// The process that is about to load a filter with a listener, as its parent sees it.
struct Listening {
  int channel_fd = -1;  ///< to the process; all borrowed
  int pidfd = -1;
  pid_t pid = -1;
  const spec::Spec* spec = nullptr;
  std::string state;  ///< of the container, JSON
};

/// The child: tells that a listener comes by `page_fd` (os::SeccompHandover) and waits until the parent is ready.
Result<> announce_listener(int channel_fd, int page_fd);

/// The parent, at the announcement: connects to listenerPath, lets the child load its filter, takes the listener out of
/// it and sends it on with the container process state; only then goes the child on. When that fails the child is
/// killed, since it can be told nothing any more. Blocks for milliseconds, at most some ten seconds. Errors:
/// kUnavailable, kNotFound nobody listens there; what the child reports; kDenied no right to trace it. Source:
/// config-linux.md "Seccomp", "The Container Process State".
Result<> serve_listener(const Listening& child, UniqueFd page);

/// The container process state as JSON. Pure.
[[nodiscard]] std::string process_state_json(const Listening& child);

}  // namespace berth::engine::process
