#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cri/records.h"
#include "spec/runtime.h"

/// What NamespaceOption.userns_options and the mappings of mounts mean: pure functions.
namespace berth::cri {

/// The ids of a pod with a user namespace, which has its root: 0 inside is the first of each range.
struct PodIds {
  spec::IdMapping uids;
  spec::IdMapping gids;

  [[nodiscard]] uid_t root_uid() const { return uids.host_id; }
  [[nodiscard]] gid_t root_gid() const { return gids.host_id; }
  bool operator==(const PodIds&) const = default;
};

/// Nothing for a pod in the node's user namespace. Errors: kInvalid a mode other than POD and NODE, not one range each,
/// a range that does not begin at 0 inside or leaves the kernel's numbers, mappings with NODE, the node's pids or IPC.
[[nodiscard]] Result<std::optional<PodIds>> pod_ids(const pb::NamespaceOption& options);

/// Those of a pod that is there: what it was made with was looked at then.
[[nodiscard]] std::optional<PodIds> ids_of(const pb::PodSandboxConfig& config);
/// A range as a line of /proc/PID/uid_map.
[[nodiscard]] std::string map_line(const spec::IdMapping& range);

/// Whether a container asks for what its pod has. kInvalid: it does not, or as pod_ids().
[[nodiscard]] Result<> check_container_ids(const pb::NamespaceOption& container, const std::optional<PodIds>& pod);

/// The id maps of a mount as the specification has them. Errors: kInvalid one list without the other, a range that
/// cannot be, two that overlap.
struct MountIds {
  std::vector<spec::IdMapping> uids;  ///< empty: none asked for; then `gids` too
  std::vector<spec::IdMapping> gids;
};
[[nodiscard]] Result<MountIds> mount_ids(const pb::Mount& mount);

}  // namespace berth::cri
