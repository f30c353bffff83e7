#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cri/handlers.h"
#include "cri/records.h"

/// The text of the files in a pod's folder. Pure functions; sandbox_run.cc writes them.
namespace berth::cri {

/// The descriptors by which a shim gets the pod's namespaces, where they belong to a user namespace.
inline constexpr int kUserNamespaceFd = 3;
inline constexpr int kIpcNamespaceFd = 4;
inline constexpr int kUtsNamespaceFd = 5;
/// The pod's user namespace: the shim is not in it, but holds it.
[[nodiscard]] std::string user_namespace_path(pid_t shim_pid);

/// sandbox.json, what the shim reads at its start (docs/shim.md).
[[nodiscard]] std::string sandbox_json(const SandboxRecord& record, const Handler& handler,
                                       std::uint64_t log_max_line_bytes, const std::string& scope_program = {});

/// resolv.conf of `dns`. Values that would break out of their line are refused: kInvalid.
[[nodiscard]] Result<std::string> resolv_conf(const pb::DNSConfig& dns);

/// /etc/hosts with the usual local names and `hostname` at each of `ips`.
[[nodiscard]] std::string hosts_file(const std::string& hostname, const std::vector<std::string>& ips);

/// The folder of a pod and of a container in it.
[[nodiscard]] std::string pod_dir(const std::string& state_dir, const std::string& sandbox_id);
[[nodiscard]] std::string container_dir(const std::string& state_dir, const std::string& sandbox_id,
                                        const std::string& container_id);

/// What a shim noted of a container's end (docs/shim.md, Exits).
struct NotedExit {
  std::int32_t code = 0;
  std::int64_t at_ns = 0;
  std::string reason;
};
/// From the container's folder; nothing when there is no note, or not a whole one.
[[nodiscard]] std::optional<NotedExit> read_exit_note(const std::string& dir);

}  // namespace berth::cri
