#pragma once
#include <memory>
#include <string>

#include "engine/engine.h"

namespace berth::engine::external {

struct Options {
  std::string binary;  ///< the OCI command-line runtime, absolute
  std::string root;    ///< its state folder (`--root`), absolute, the caller's alone
  /// Where cgroup hierarchies are mounted.
  std::string cgroup_root = "/sys/fs/cgroup";
  /// The caller's mount namespace is its own. Then the v2 hierarchy that stands beside v1's (the hybrid layout) is
  /// covered in it once a runtime has refused that layout (crun does).
  bool private_mounts = false;
  /// berth-scope, where systemd is to make the cgroups: the runtime is told (`--systemd-cgroup`), and systemd the
  /// limits that it did not tell. Empty: the runtime makes them.
  std::string scope_program{};
  [[nodiscard]] bool by_systemd() const { return !scope_program.empty(); }
};

/// Containers by an OCI runtime's command line (runc, crun, youki). The caller is the subreaper of what the runtime
/// leaves behind, collects init and execs itself, and must have one thread: each call waits for the program.
///
/// Needs of a container: linux.cgroupsPath is absolute, as this engine reads figures and ends processes by the cgroup;
/// under systemd it is "slice:prefix:name".
/// Its root file system is attached at `<bundle>/rootfs` in the caller's mount namespace. `die_with_parent`,
/// `start_socket`, `shared_root` and `start_at_once` have no meaning to a command line; they are passed over.
class ExternalEngine : public Engine {
 public:
  [[nodiscard]] std::string_view name() const override { return "external"; }
  /// Removes what a dead caller left of a container: the runtime's state, its processes, its cgroup. `cgroup_path`:
  /// linux.cgroupsPath, or where that is, or empty. Idempotent.
  virtual Result<> clear(const std::string& id, const std::string& bundle, const std::string& cgroup_path) = 0;
};

/// Makes no system call; the cgroup layout is looked up at the first use and kept.
[[nodiscard]] std::unique_ptr<ExternalEngine> make_external_engine(Options options);

}  // namespace berth::engine::external
