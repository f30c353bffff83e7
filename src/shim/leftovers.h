#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace berth::shim {

/// What is on disk of each container, so that the `delete` command finds after a killed shim what to clear: one file
/// `live/<id>` in the pod's folder, from before the container is made until it is gone.
class Leftovers final {
 public:
  struct Entry {
    std::string id;
    std::string bundle;
    std::string cgroup_path;  ///< empty: as in the bundle's config.json
  };

  explicit Leftovers(std::string pod_folder) : folder_(std::move(pod_folder) + "/live") {}

  /// Writes or replaces the entry. Errors: by errno.
  [[nodiscard]] Result<> record(const Entry& entry);
  /// Idempotent; what cannot be removed is logged.
  void forget(std::string_view id) const;
  /// Sorted by id. A file that is not whole (the shim died while writing it) gives an entry without bundle.
  [[nodiscard]] Result<std::vector<Entry>> list() const;

 private:
  [[nodiscard]] std::string path(std::string_view id) const { return folder_ + "/" + std::string(id); }

  std::string folder_;
  bool folder_made_ = false;
};

}  // namespace berth::shim
