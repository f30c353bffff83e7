#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace berth::cri {

/// What is left of a pod that has been taken down while the kernel could not end all of its tasks: cgroups, given back
/// when those have ended. Recorded in the database; it outlives the pod's own record.
struct Detached {
  std::string sandbox_id;
  std::vector<std::string> cgroups;  ///< of its containers
  std::string cgroup_parent;         ///< as in the pod's record
  std::string cgroup_top;
  bool systemd_cgroups = false;
  bool operator==(const Detached&) const = default;
};

/// As they are stored, and back. kCorrupt for anything else.
[[nodiscard]] std::string encode(const std::vector<Detached>& all);
[[nodiscard]] Result<std::vector<Detached>> decode_detached(std::string_view text);

}  // namespace berth::cri
