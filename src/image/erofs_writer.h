#pragma once
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "image/layer_tree.h"

namespace berth::image {

struct ErofsOptions {
  unsigned block_bits = 9;  ///< 9 (512 bytes, as in an archive) to 12; data start at multiples of it
  /// Sizes of the archives that hold the files' data, in the order of Node::archive; the devices of the file system.
  std::vector<std::uint64_t> archive_bytes;
};

/// Writes `tree` as an EROFS image into `fd`, from its current position on: metadata alone, sequentially. Whiteouts
/// become character devices 0:0 and opaque folders get the attribute by which overlayfs knows them, so that an index of
/// one layer can be a lower directory. The same tree gives the same bytes. Mounted it wants the archives as "device"
/// options in their order. `fd` is borrowed. Does not sync. Returns the bytes written. Errors: kUnsupported more than
/// 2^32 blocks, attributes of more than 256 KiB on one file, data that lie between blocks or outside their archive;
/// else by errno. Source: Linux Documentation/filesystems/erofs.rst.
Result<std::uint64_t> write_erofs(const LayerTree& tree, const ErofsOptions& options, int fd);

}  // namespace berth::image
