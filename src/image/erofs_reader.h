#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/layer_tree.h"

namespace berth::image {

/// What an EROFS index says.
struct ErofsIndex {
  LayerTree tree;
  std::vector<std::uint64_t> archive_blocks;  ///< one for each device
  unsigned block_bits = 0;
};

/// Reads an index that write_erofs() wrote: `image` is the whole file. Character devices 0:0 come back as whiteouts and
/// the attribute of overlayfs as Node::opaque; which folders were implied an index does not say. Nothing is believed: a
/// damaged or hostile image is kCorrupt, or kUnsupported where it uses what write_erofs() does not; memory is bounded
/// by the size of `image` and by `limits` (kExhausted).
[[nodiscard]] Result<ErofsIndex> read_erofs(std::string_view image, const TreeLimits& limits = {});

}  // namespace berth::image
