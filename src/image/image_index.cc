#include "image/image_index.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/ids.h"
#include "image/erofs_reader.h"
#include "image/erofs_writer.h"
#include "image/tree_merge.h"
#include "os/file.h"

namespace berth::image {
namespace {

constexpr std::size_t kMaxIndex = 2ULL << 30;

Result<LayerTree> read_layer(const Disk& disk, const LayerRecord& layer, std::uint64_t& archive_bytes) {
  BERTH_ASSIGN(const std::string bytes, os::read_file(disk.layer_index(layer.diff_id), kMaxIndex), "index");
  BERTH_ASSIGN(ErofsIndex index, read_erofs(bytes), "index");
  archive_bytes = (layer.archive_bytes + 511) / 512 * 512;
  if (index.archive_blocks.size() != 1 || index.archive_blocks[0] * 512 < archive_bytes) {
    return fail(Code::kCorrupt, "the index is another layer's");
  }
  // An index does not tell which folders nobody described.
  index.tree.at(kRootNode).implied = !layer.has_root_entry;
  for (const std::string& path : layer.implied_dirs) {
    if (const auto id = index.tree.find_path(path)) index.tree.at(*id).implied = true;
  }
  return std::move(index.tree);
}

Result<std::uint64_t> write_durably(const LayerTree& tree, const ErofsOptions& options, const std::string& path) {
  const std::string temporary = path + "." + random_hex(4) + ".new";
  BERTH_ASSIGN(const UniqueFd file, os::open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, 0400), "image index");
  auto done = [&]() -> Result<std::uint64_t> {
    auto written = write_erofs(tree, options, file.get());
    if (!written) return written;
    if (::fdatasync(file.get()) != 0) return fail_errno(errno, "flush " + temporary);
    if (::rename(temporary.c_str(), path.c_str()) != 0) return fail_errno(errno, "rename " + temporary);
    return written;
  }();
  if (!done) ignore(os::remove_file(temporary), "the first failure is the one to tell");
  return done;
}

}  // namespace

Result<ImageIndex> write_image_index(const Disk& disk, const std::vector<LayerRecord>& layers,
                                     const std::string& path) {
  LayerTree image;
  ErofsOptions options;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    options.archive_bytes.push_back(0);
    BERTH_ASSIGN(const LayerTree layer, read_layer(disk, layers[i], options.archive_bytes.back()),
                 "layer " + layers[i].diff_id);
    BERTH_TRY(put_layer_over(image, layer, static_cast<std::uint16_t>(i)), "layer " + layers[i].diff_id);
  }
  BERTH_ASSIGN(const std::uint64_t bytes, write_durably(image, options, path), "image index");
  return ImageIndex{image.at(kRootNode), bytes};
}

}  // namespace berth::image
