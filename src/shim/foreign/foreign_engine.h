#pragma once
#include <memory>
#include <string>

#include "shim/remote.h"

namespace berth::shim::foreign {

struct Options {
  std::string binary;          ///< the containerd shim v2, absolute
  std::string folder;          ///< the pod's
  std::string sandbox_id;      ///< the pod's
  std::string runtime_binary;  ///< what a shim of runc's kind is to run; empty: its own choice
  std::string runtime_root;    ///< where that keeps its state; empty: its own choice
  std::string cgroup_root = "/sys/fs/cgroup";
  /// berth-scope, where systemd is to make the cgroups, of which a shim of runc's kind is told; and systemd is told the
  /// limits. Empty: it makes them.
  std::string scope_program{};
  [[nodiscard]] bool by_systemd() const { return !scope_program.empty(); }
};

/// Containers by a shim of another maker (containerd's runtime v2), one process of it for the pod's containers. It is
/// started with the first container, and again when it has died. The caller is the subreaper, has one thread, and its
/// mount namespace is its own.
///
/// Needs of a container: linux.cgroupsPath is absolute (under systemd "slice:prefix:name"), and its processes
/// are in that cgroup, as figures, kills and the belief in what the shim tells go by it. `die_with_parent`, `extra_fds`
/// and the like have no meaning to such a shim.
class ForeignEngine : public RemoteEngine {
 public:
  [[nodiscard]] std::string_view name() const override { return "shim"; }
  /// Kills the shim that a dead caller has left. Idempotent.
  virtual Result<> clear_program() = 0;
  /// Then removes one of its containers. Idempotent. `cgroup_path`: linux.cgroupsPath, or empty.
  virtual Result<> clear(const std::string& id, const std::string& bundle, const std::string& cgroup_path) = 0;
};

[[nodiscard]] std::unique_ptr<ForeignEngine> make_foreign_engine(Options options);

}  // namespace berth::shim::foreign
