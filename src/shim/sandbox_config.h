#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace berth::shim {

/// The pod's user namespace and those that belong to it, which whoever starts the shim has made: it hands them over as
/// open descriptors.
struct PodUserNamespace {
  int fd = -1;         ///< of the user namespace; the shim keeps it, so that /proc/<shim>/fd/<fd> names it
  int ipc_fd = -1;     ///< -1 with "ipc": "node"
  int uts_fd = -1;     ///< -1 with "uts": "node"
  uid_t root_uid = 0;  ///< whom the host sees as the pod's root
  gid_t root_gid = 0;
};

/// The pod's cgroups are made by systemd: scopes in the pod's slice.
struct PodSystemd {
  std::string slice;    ///< "kubepods-pod1.slice"
  std::string scope;    ///< of the shim itself and what is the pod's: "berth-ID.scope"
  std::string program;  ///< berth-scope, absolute
};

/// sandbox.json: what the pod is to have of its own. Written by the daemon; docs/shim.md describes the members.
struct SandboxConfig {
  std::string sandbox_id;
  std::string hostname;  ///< empty: as on the host
  bool pod_ipc = false;
  bool pod_uts = false;
  bool pod_pid = false;  ///< one pid namespace for the pod, with an init of ours (pod_init.h)
  std::optional<PodUserNamespace> user_namespace;
  std::uint64_t shm_size_bytes = 0;                          ///< 0: no /dev/shm of the pod's own
  std::vector<std::pair<std::string, std::string>> sysctls;  ///< name with dots (or slashes), value
  std::string cgroup_parent;
  std::optional<PodSystemd> systemd;  ///< absent: the cgroups are made by whoever needs them
  std::uint64_t log_max_line_bytes = 16384;
  std::string shim;  ///< engine "shim": the containerd shim v2 that runs the containers, absolute; else empty
  /// Engine "external": the OCI command-line runtime, absolute. Engine "shim": the one that a shim of runc's kind is to
  /// run, or empty. Empty without `shim`: our own engine.
  std::string runtime_binary;
  /// Its state folder; empty: `runtime` in the pod's folder, with `shim` the shim's own choice.
  std::string runtime_root;
};

inline constexpr std::size_t kMaxSandboxJsonBytes = 1U << 20;

/// Unknown members are ignored (a newer daemon); another `version` than 1 is refused. Errors: kInvalid, naming the
/// member; kExhausted a document too large or deep.
[[nodiscard]] Result<SandboxConfig> parse_sandbox_config(std::string_view json);
/// That of `folder`; nothing when there is none.
[[nodiscard]] Result<std::optional<SandboxConfig>> read_sandbox_config(const std::string& folder);

/// The path below /proc/sys of a sysctl that belongs to one pod. "net.ipv4.ip_forward" and "net/ipv4/ip_forward" are
/// one; with slashes, a dot is part of a name ("net/ipv4/conf/eth0.1/forwarding"). Errors: kDenied one that is not in a
/// namespace of the pod (only net.*, kernel.shm*, kernel.msg*, kernel.sem and fs.mqueue.* are); kInvalid one that is no
/// name.
[[nodiscard]] Result<std::string> sysctl_path(std::string_view name);

}  // namespace berth::shim
