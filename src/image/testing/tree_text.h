#pragma once
#include <map>
#include <string>

namespace berth::image::testing {

/// All that a container could tell of the files below `root` (a path, reached as it is): by path, one line of type,
/// mode, owner, time, size, device, target, extended attributes and a digest of the data; of files with several names
/// the first name. Of folders neither size nor link count, which file systems make up. Of the root itself nothing.
[[nodiscard]] std::map<std::string, std::string> describe_tree(const std::string& root);

}  // namespace berth::image::testing
