#pragma once
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cri/cgroup_names.h"
#include "cri/runtime/v1/api.pb.h"
#include "network/network.h"

/// What the daemon remembers of sandboxes and containers: plain data, written whole to the state database before it is
/// shown to readers. A record that readers see is never changed; a new one takes its place.
namespace berth::cri {

namespace pb = ::runtime::v1;

/// Life of a sandbox. Each state is written before the side effects it stands for.
///
///   (none) --> kPreparing --> kReady --> kStopping --> kStopped --> kRemoving --> (none)
///                  |             \__ shim died __________^              ^
///                  \____ undone: (none)      kReady ... kStopped -------/
///
/// A restored one goes from kPreparing to kRestoring, and to kReady once all its containers are there, else to
/// kRemoving.
enum class SandboxState : std::uint8_t {
  kPreparing = 1,  ///< being made; not listed; a restart undoes it
  kReady = 2,
  kStopping = 3,   ///< being taken down; listed as not ready; a restart goes on with it
  kStopped = 4,    ///< nothing runs; network given back unless `network_held`
  kRemoving = 5,   ///< a restart goes on with it
  kRestoring = 6,  ///< its containers are being restored; not listed; a restart removes it
};
[[nodiscard]] std::string_view state_name(SandboxState state);

struct SandboxRecord {
  std::string id;
  SandboxState state = SandboxState::kPreparing;
  std::int64_t created_at_ns = 0;
  pb::PodSandboxConfig config;
  std::string handler;           ///< as asked for
  std::string cgroup_parent;     ///< of the pod's containers, absolute below each hierarchy
  bool systemd_cgroups = false;  ///< they are systemd's units
  std::string cgroup_top;  ///< the parent itself or what of the path to it was made for our pods; empty: none of it
  bool host_network = false;
  bool network_held = false;     ///< the network may hold something for this sandbox
  network::Attachment network;   ///< what it got
  pid_t shim_pid = 0;            ///< 0: none known
  std::uint64_t shim_start = 0;  ///< its start time, to know it again
  pid_t init_pid = 0;            ///< of the pid namespace that the containers share; 0: they share none
  std::string message;           ///< why it is not ready, for people
  std::string restored_from;     ///< the path that RestorePod named; empty: it was made by RunPodSandbox

  [[nodiscard]] CgroupDriver cgroup_driver() const {
    return systemd_cgroups ? CgroupDriver::kSystemd : CgroupDriver::kCgroupfs;
  }
};

/// Whether the pod asks for one pid namespace (shareProcessNamespace). Without the message nobody has asked for
/// anything, and the default of its members says nothing.
[[nodiscard]] inline bool shares_pids(const pb::PodSandboxConfig& config) {
  const auto& security = config.linux().security_context();
  return security.has_namespace_options() && security.namespace_options().pid() == pb::POD;
}

/// Life of a container. kCreating is not listed, a restart undoes it. kStarting is listed as created: whether the
/// program runs is the shim's to say. kRemoving is listed as exited.
enum class ContainerPhase : std::uint8_t {
  kCreating = 1,
  kCreated = 2,
  kStarting = 3,
  kRunning = 4,
  kExited = 5,
  kRemoving = 6,
};
[[nodiscard]] std::string_view phase_name(ContainerPhase phase);

struct ContainerUser {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;  ///< with the main one
  bool operator==(const ContainerUser&) const = default;
};

struct ContainerRecord {
  std::string id;
  std::string sandbox_id;
  ContainerPhase phase = ContainerPhase::kCreating;
  std::int64_t created_at_ns = 0;
  std::int64_t started_at_ns = 0;
  std::int64_t finished_at_ns = 0;
  std::int32_t exit_code = 0;
  std::string reason;   ///< CamelCase word, once exited
  std::string message;  ///< for people
  pb::ContainerConfig config;
  pb::LinuxContainerResources resources;  ///< in force
  std::string image_id;
  std::string image_ref;     ///< digest reference, or the id
  std::string log_path;      ///< absolute; empty: no log
  std::string process_json;  ///< OCI process object, what an exec starts from
  std::string cgroups_path;
  int stop_signal = 15;  ///< the kernel's number
  /// Why the shim could not make it, when that is the container's own fault (no such program): told at its start.
  std::string create_error;
  bool shim_deleted = false;  ///< the shim holds nothing of it any more
  pid_t pid = 0;              ///< of init, 0: none
  ContainerUser user;
};

using SandboxPtr = std::shared_ptr<const SandboxRecord>;
using ContainerPtr = std::shared_ptr<const ContainerRecord>;

[[nodiscard]] std::string encode(const SandboxRecord& record);
[[nodiscard]] std::string encode(const ContainerRecord& record);
/// Errors: kCorrupt, kUnsupported, kExhausted as read_blob(); kCorrupt also for a value out of range.
[[nodiscard]] Result<SandboxRecord> decode_sandbox(std::string_view blob);
[[nodiscard]] Result<ContainerRecord> decode_container(std::string_view blob);

/// What the CRI calls the states.
[[nodiscard]] pb::PodSandboxState cri_state(const SandboxRecord& record);
[[nodiscard]] pb::ContainerState cri_state(const ContainerRecord& record);
/// Whether lists show it.
[[nodiscard]] bool visible(const SandboxRecord& record);
[[nodiscard]] bool visible(const ContainerRecord& record);

}  // namespace berth::cri
