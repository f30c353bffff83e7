#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::image {

/// Open directories on the way to the last one used, since archives list a folder's entries one after another. Paths
/// are relative to the root, clean (no "", "." or ".." component), "" being the root. Not thread-safe.
class DirCache final {
 public:
  explicit DirCache(int root_fd) : root_fd_(root_fd) {}

  /// A borrowed descriptor of the directory `path`, valid until the next call. Symlinks on the way are followed inside
  /// the root only. kNotFound when a part is missing; kCorrupt when a part is no directory or the links go in circles.
  Result<int> open(const std::string& path);
  /// The path of what open(path) gave last, without the links that led there.
  Result<std::string> real_path(const std::string& path) const;
  /// Forgets `path` and all below it: it is about to be replaced.
  void forget(const std::string& path);

 private:
  struct Level {
    std::string path;
    UniqueFd fd;
  };
  int root_fd_;
  std::vector<Level> levels_;  ///< each one below the one before, reached without any link
  Level by_link_;              ///< the last one that was reached over a link
};

}  // namespace berth::image
