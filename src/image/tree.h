#pragma once
#include <cstdint>
#include <string>

#include "base/result.h"

namespace berth::image {

/// Removes the tree `path` however deep it is (a container can nest folders beyond what one walk may hold open): deep
/// parts are first moved up into the folder `spare_dir` of the same file system. Absent is success. Blocks on disk.
Result<> remove_any_tree(const std::string& path, const std::string& spare_dir);

struct TreeUsage {
  std::uint64_t bytes = 0;  ///< allocated on disk; hard links once
  std::uint64_t inodes = 0;
};
/// Walks the tree `path`, following no link and crossing no mount. What disappears meanwhile is left out, and so is
/// what lies more than 256 folders deep. Blocks on disk.
Result<TreeUsage> tree_usage(const std::string& path);

}  // namespace berth::image
