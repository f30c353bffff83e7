#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/engine.h"
#include "engine/process/cgroup.h"
#include "engine/process/mount_plan.h"
#include "engine/process/process_engine.h"

namespace berth::engine::process {

/// A namespace that is joined by its file.
struct NamespaceJoin {
  int clone_flag = 0;
  UniqueFd fd;
};

/// A host cgroup folder that shows inside the container (mounts of type "cgroup" under v1, or v2 without a cgroup
/// namespace), as a detached mount.
struct CgroupTree {
  std::string name;  ///< of the hierarchy
  UniqueFd tree;
};

/// Everything that the child needs, looked up and opened by the parent, in whose namespaces the paths mean what the
/// specification says. The child finds it in its copy of the memory; descriptors are inherited by fork and all CLOEXEC.
struct Launch {
  const CreateRequest* request = nullptr;
  const spec::Spec* spec = nullptr;
  MountPlan mounts;
  /// By index of mounts.mounts: the detached source of a bind mount. Invalid: the child makes it by the path, which
  /// means the same in its copy of the mount namespace.
  std::vector<UniqueFd> bind_trees;
  UniqueFd root_tree;                    ///< likewise
  std::vector<UniqueFd> id_maps;         ///< by the same index: the user namespace that maps a new file system's ids
  std::vector<UniqueFd> device_trees;    ///< of a user namespace's default and listed devices, which mknod may not make
  UniqueFd sysfs_tree;                   ///< the host's, alone, where a user namespace has no right to a new one
  const Cgroup* cgroup_place = nullptr;  ///< borrowed
  /// The cgroup is made while the child works already, which then enters it by itself (cgroup_join.cc).
  bool cgroup_pending = false;
  std::vector<CgroupTree> cgroup_trees;
  CgroupEntry cgroup;
  std::vector<NamespaceJoin> joins;  ///< all but pid and user
  UniqueFd user_join;
  UniqueFd pid_join;
  std::uint64_t new_namespaces = 0;  ///< CLONE_NEW*, all that are to be made
  int channel = -1;                  ///< the child's end
  int listener = -1;                 ///< of request.start_socket; -1: the start comes by the channel
  bool console = false;
  bool shares_mounts = false;  ///< it lives in the caller's mount namespace, with its root on request->shared_root
  int filter_cache = -1;       ///< of Options::filter_cache, borrowed; -1: none

  [[nodiscard]] bool makes(std::uint64_t flag) const { return (new_namespaces & flag) != 0; }
  /// Whether the container runs in a user namespace of its own or a joined one.
  [[nodiscard]] bool in_user_namespace() const;
};

/// Fills a Launch, all but the cgroup. Makes nothing that outlives its descriptors. Errors name the field.
Result<Launch> prepare_launch(const CreateRequest& request);

/// A device of the container: the six that the specification asks for, or a listed one.
struct DeviceNode {
  std::string path;
  unsigned type = 0;  ///< S_IFCHR, S_IFBLK, S_IFIFO
  unsigned mode = 0666;
  unsigned major = 0;
  unsigned minor = 0;
  unsigned uid = 0;
  unsigned gid = 0;
};
/// Default devices first. A listed one replaces the default of the same path. Errors: kInvalid type or number.
Result<std::vector<DeviceNode>> plan_devices(const spec::Spec& spec);

/// CLONE_NEWPID, ... of a namespace type.
[[nodiscard]] int clone_flag_of(spec::NamespaceType type);

/// Whether the child can find and enter `cgroup` by itself, so that it need not exist before the child
/// (cgroup_join.cc).
[[nodiscard]] bool may_join_late(const Launch& launch, const Cgroup& cgroup);
/// Opens what the child needs of its cgroup, which exists.
Result<> open_cgroup(const Cgroup& cgroup, Launch& launch);
/// The child: waits until its cgroup is there and enters it, unless it is in it already.
Result<> join_pending_cgroup(Launch& launch);

/// The child: sets everything up and execs. Never returns to the caller's code. Sends what goes wrong up the channel.
[[noreturn]] void run_init(Launch& launch);

// Steps of run_init, one file each.

/// Builds the container's root from the mount plan inside a new mount namespace and leaves the child in it, "/" being
/// its working folder. Returns the console's slave side when there is a terminal (rootfs.cc).
Result<UniqueFd> enter_rootfs(Launch& launch, int proc_fd);
/// Hangs the detached mount that this program runs from, if it does, somewhere into the old root's tree, with which it
/// goes; what is mounted must reach no other namespace any more. A mount that is in no namespace costs a grace period
/// of the kernel's (70 us, milliseconds under load) when its last descriptor is closed, and our caller would wait for
/// it (own_executable.cc).
void park_own_view();
/// Device nodes and links below the root's /dev (devices.cc).
Result<> make_devices(const Launch& launch, int root_fd);
/// The terminal: sends the master to the parent, binds the slave on /dev/console, returns it (terminal.cc).
Result<UniqueFd> make_console(const Launch& launch, int root_fd, int devpts_fd);
/// A procfs or sysfs that was mounted new; `tree` stays its root, wherever the name goes.
struct KernelMount {
  std::string target;  ///< as PlannedMount::target
  UniqueFd tree;
};
/// Masked and read-only paths (masks.cc).
Result<> mask_paths(const spec::Linux& config, int root_fd, std::span<const KernelMount> mounts);
/// A mount of type "cgroup" at `target_fd` (rootfs_cgroup.cc).
Result<> mount_cgroup(const Launch& launch, const PlannedMount& mount, int root_fd, int target_fd);
/// Copies what lies below `from_fd` into the new file system `to_fd` (copy_up.cc).
Result<> copy_up(int from_fd, int to_fd);

}  // namespace berth::engine::process
