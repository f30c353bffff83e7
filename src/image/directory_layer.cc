#include "image/directory_layer.h"

#include <fcntl.h>

#include "os/file.h"

namespace berth::image {

Result<std::unique_ptr<LayerForm>> DirectoryLayer::start(const std::string& folder, std::uint64_t max_bytes) {
  const std::string tree = folder + "/fs";
  BERTH_TRY(os::make_dirs(tree, 0755), "layer");
  BERTH_ASSIGN(UniqueFd root, os::open_file(tree, O_RDONLY | O_DIRECTORY), "layer");
  BERTH_ASSIGN(const std::uint32_t umask, current_umask(), "layer");
  return std::unique_ptr<LayerForm>(new DirectoryLayer(std::move(root), umask, max_bytes));
}

Result<LayerStats> DirectoryLayer::finish() {
  BERTH_TRY(writer_.finish(), "layer");
  return writer_.stats();
}

}  // namespace berth::image
