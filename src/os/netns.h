#pragma once
#include <functional>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::os {

/// A new, empty network namespace, alive as long as the descriptor (or a process or socket in it). The caller's own
/// namespace does not change: a short-lived thread makes it. Needs CAP_SYS_ADMIN. Source: network_namespaces(7),
/// unshare(2).
Result<UniqueFd> create_netns();

/// Runs `work` on a short-lived thread inside the network namespace `netns_fd` (borrowed) and waits for it. Sockets
/// that `work` opens and processes that it spawns are in that namespace. /proc/sys/net there is the namespace's own.
Result<> run_in_netns(int netns_fd, const std::function<Result<>()>& work);

/// The namespace of the calling thread.
Result<UniqueFd> current_netns();

}  // namespace berth::os
