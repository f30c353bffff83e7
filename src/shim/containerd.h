#pragma once
#include <string>

#include "base/result.h"
#include "shim/command_line.h"

namespace berth::shim {

/// The `start` command as containerd calls it (with -address), in the bundle of the task `line.id`: starts this
/// program's server, or finds the one of the same pod: containers whose annotation io.kubernetes.cri.sandbox-id is the
/// same share one. Its socket is in kSocketFolder, by a short name, as a bundle's path is longer than sun_path. Writes
/// the address to the bundle's file `address`, where containerd 1.x looks after its own restart. Returns what goes to
/// stdout: the address, or for a containerd whose MAX_SHIM_VERSION is 3 or more the JSON object of the task API v3.
[[nodiscard]] Result<std::string> start_for_containerd(const CommandLine& line, const std::string& folder);

/// After its `delete`: removes the socket that the bundle's `address` names, if nobody listens on it.
void forget_socket(const std::string& folder);

/// The answer to `-info` (containerd 1.7 and later): a serialized containerd.types.RuntimeInfo.
[[nodiscard]] std::string runtime_info();

inline constexpr const char* kSocketFolder = "/run/containerd/s";
/// The socket of a pod's shim: the same for the same three.
[[nodiscard]] std::string socket_for(const std::string& address, const std::string& name_space,
                                     const std::string& group);
/// What start_for_containerd() answers.
[[nodiscard]] std::string bootstrap_answer(const std::string& address, const char* max_shim_version);

}  // namespace berth::shim
