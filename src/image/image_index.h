#pragma once
#include <string>
#include <vector>

#include "image/disk.h"
#include "image/layer_tree.h"

namespace berth::image {

/// What an image's index amounts to.
struct ImageIndex {
  Node root;  ///< the root folder's attributes
  std::uint64_t bytes = 0;
};

/// Merges the indexes of `layers` (archives, base first) into one file at `path`, written under another name and
/// flushed before it gets that one. The archives are its devices in the order of
/// `layers`. Blocks on disk. Errors: kCorrupt a damaged index; kUnsupported as put_layer_over() and write_erofs(); else
/// by errno.
Result<ImageIndex> write_image_index(const Disk& disk, const std::vector<LayerRecord>& layers, const std::string& path);

}  // namespace berth::image
