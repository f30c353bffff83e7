#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::shim {

/// One mount of a Create request, as containerd describes it.
struct RootMount {
  std::string type;
  std::string source;
  std::vector<std::string> options;
};

/// What has to be done for it.
struct RootPlan {
  bool bind = false;
  bool recursive = false;
  std::string type;
  std::string source;
  std::uint64_t attributes = 0;    ///< MOUNT_ATTR_*
  std::vector<std::string> lower;  ///< overlay: topmost first, unescaped
  /// Further keys of the file system, in order; a flag has no value.
  struct Setting {
    std::string key;
    std::string value;
    bool flag = false;
    bool operator==(const Setting&) const = default;
  };
  std::vector<Setting> settings;
  /// Whom the files belong to: lines of a uid_map, of ids on the disk to ids of the host. Both or none. Of an overlay
  /// the layers alone: what is written above is owned by the ids of the host.
  std::string uid_map;
  std::string gid_map;
};

/// Pure. Errors: kInvalid no type, an overlay without lowerdir; kUnsupported an option that only containerd's mount
/// manager understands. "uidmap" and "gidmap" are one range each, as containerd has them.
[[nodiscard]] Result<RootPlan> plan_root(const RootMount& mount);

/// The planned file system as a detached mount, which nothing but its holder sees. `spare_folder`: an existing empty
/// folder that an overlay of mapped layers, and any on kernels without "lowerdir+" (before 6.7), needs for a moment as
/// a mount point. Errors: kUnsupported a file system that takes no id map; else by errno, with the kernel's own words.
[[nodiscard]] Result<UniqueFd> make_root(const RootPlan& plan, const std::string& spare_folder);

/// The way of old kernels, for make_root() and its tests.
[[nodiscard]] Result<UniqueFd> make_overlay_by_mount(const RootPlan& plan, const std::string& spare_folder);

}  // namespace berth::shim
