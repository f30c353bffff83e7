#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::shim {

/// One range of ids as a root mount's option has it ("uidmap=0:65536:1000": inside, on the host, how many), as a line
/// of /proc/PID/uid_map. kInvalid for anything else. Source: containerd 2.0, mount options of its overlay snapshotter.
[[nodiscard]] Result<std::string> parse_id_range(std::string_view text);

/// The user namespace whose ids `uid_map` and `gid_map` (lines of uid_map) stand for, for mount_setattr(2).
[[nodiscard]] Result<UniqueFd> open_root_map(const std::string& uid_map, const std::string& gid_map);

/// Changes whom the files of a mount belong to. kUnsupported when its file system takes no id map.
[[nodiscard]] Result<> map_mount(int tree_fd, int map_fd);

/// The lower layers of an overlay, their files belonging to others: overlayfs itself takes no id map, but takes layers
/// that have one. The copies hang on `spare` in the caller's mount namespace for as long as this lives; an overlay
/// that was made of them does not need it any more.
class MappedLayers final {
 public:
  /// `lower`: absolute folders in one mount. `spare`: an existing empty folder, not below a layer. Errors: kUnsupported
  /// a file system that takes no map, layers in several mounts; else by errno.
  static Result<MappedLayers> attach(const std::vector<std::string>& lower, int map_fd, const std::string& spare);
  MappedLayers(MappedLayers&& other) noexcept;
  MappedLayers& operator=(MappedLayers&&) = delete;
  MappedLayers(const MappedLayers&) = delete;
  MappedLayers& operator=(const MappedLayers&) = delete;
  ~MappedLayers();

  /// Where they are now, in the same order.
  [[nodiscard]] const std::vector<std::string>& paths() const { return paths_; }

 private:
  explicit MappedLayers(std::string spare) : spare_(std::move(spare)) {}

  std::string spare_;
  std::vector<std::string> paths_;
};

}  // namespace berth::shim
