#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "spec/runtime.h"

namespace berth::engine::process {

/// The options of one mount, sorted by who takes them. Attribute bits are MOUNT_ATTR_*, propagation is MS_*.
struct MountOptions {
  bool bind = false;
  bool recursive_bind = false;
  std::uint64_t set = 0;  ///< for the mount itself
  std::uint64_t clear = 0;
  std::uint64_t recursive_set = 0;  ///< for it and all below: rro, rnosuid, ...
  std::uint64_t recursive_clear = 0;
  struct Propagation {
    std::uint64_t type = 0;
    bool recursive = false;
  };
  std::vector<Propagation> propagation;  ///< in the order given
  bool copy_up = false;                  ///< tmpcopyup
  bool idmap = false;
  bool recursive_idmap = false;
  struct Data {
    std::string key;
    std::optional<std::string> value;  ///< nothing: a flag
  };
  std::vector<Data> data;  ///< what the file system itself takes
};

/// Sorts the options of a config.json mount. Errors: kUnsupported "remount".
/// Source: runtime-spec config.md "Linux mount options", mount(8).
Result<MountOptions> parse_mount_options(const std::vector<std::string>& options);

enum class MountKind : std::uint8_t {
  kBind,        ///< a copy of a mount of the caller's mount namespace
  kFilesystem,  ///< a new superblock, or the file system's one
  kCgroup,      ///< what "type": "cgroup" stands for, by the host's cgroup version
};

/// One mount to make, in the order of the specification.
struct PlannedMount {
  MountKind kind = MountKind::kFilesystem;
  std::string target;  ///< below the container's root, absolute
  std::string type;    ///< kFilesystem
  std::string source;  ///< kBind: absolute on the host; kFilesystem: what shows in mountinfo
  MountOptions options;
  std::string file_label;      ///< SELinux label of its root folder, where the file system takes no context option
  std::size_t spec_index = 0;  ///< in spec.mounts, for its id maps
};

struct MountPlan {
  std::vector<PlannedMount> mounts;
  /// MS_SLAVE, MS_PRIVATE or MS_SHARED: what rootfsPropagation makes of mounts that come from the host; default
  /// MS_SLAVE.
  std::uint64_t base_propagation = 0;
  /// What the container's root gets in the end; 0: nothing.
  MountOptions::Propagation root_propagation;
  bool make_devices = true;  ///< false when /dev is a bind mount: it is somebody else's
};

/// A path of the configuration; a relative one starts at the bundle.
[[nodiscard]] std::string in_bundle(const std::string& path, const std::string& bundle);

/// Pure. `bundle`: absolute; relative bind sources start there. Errors: kInvalid, kUnsupported, naming the mount.
Result<MountPlan> plan_mounts(const spec::Spec& spec, const std::string& bundle);

/// One line per step, for golden tests and debugging.
[[nodiscard]] std::string describe(const MountPlan& plan);

}  // namespace berth::engine::process
