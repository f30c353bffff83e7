#pragma once
#include <sys/types.h>

#include <functional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::os {

/// A new user namespace and those that belong to it, held by their descriptors: nothing lives in them yet. Those that
/// were not asked for are invalid.
struct UserNamespace {
  UniqueFd user;
  UniqueFd network;
  UniqueFd ipc;
  UniqueFd uts;
};

/// Makes a user namespace with the maps (lines of /proc/PID/uid_map) and, of `more_flags` (CLONE_NEWNET, CLONE_NEWIPC,
/// CLONE_NEWUTS), namespaces that it owns. Also for threaded programs: the process in between makes nothing but system
/// calls, and is gone on return. Needs privileges over all ids of the maps. Blocks for a millisecond. Errors: kInvalid
/// a map that the kernel does not take; kExhausted /proc/sys/user/max_*_namespaces; else by errno. Source:
/// user_namespaces(7).
[[nodiscard]] Result<UserNamespace> make_user_namespace(const std::string& uid_map, const std::string& gid_map,
                                                        int more_flags = 0);

/// Runs `work` as the effective user `uid` and comes back to the one before. For programs of one thread. The kernel
/// takes a namespace's sysctls from its own root alone, whatever the rights of others. Errors: those of `work`.
[[nodiscard]] Result<> run_as_effective_user(uid_t uid, const std::function<Result<>()>& work);

}  // namespace berth::os
