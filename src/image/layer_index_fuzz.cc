#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "image/erofs_reader.h"
#include "image/erofs_writer.h"
#include "image/layer_tree_builder.h"
#include "image/tar_reader.h"
#include "image/tree_merge.h"
#include "os/file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using namespace berth::image;

/// All that an index keeps of the folder `id`, in words.
std::string words(const LayerTree& tree, NodeId id) {
  std::string out;
  for (const auto& child : tree.children(id)) {
    const Node& node = tree.at(child.node);
    out.append(child.name).append(" ").append(std::to_string(static_cast<int>(node.type)));
    const bool whiteout = node.type == NodeType::kWhiteout;
    for (const std::uint64_t number : {std::uint64_t{node.mode}, std::uint64_t{node.uid}, std::uint64_t{node.gid},
                                       static_cast<std::uint64_t>(node.mtime_s), std::uint64_t{node.mtime_ns},
                                       std::uint64_t{node.links}, std::uint64_t{node.opaque}}) {
      if (!whiteout) out.append(" ").append(std::to_string(number));
    }
    if (node.type == NodeType::kFile && node.size != 0) {
      out.append(" at ").append(std::to_string(node.data)).append(" + ").append(std::to_string(node.size));
    }
    if (node.type == NodeType::kSymlink) out.append(" -> ").append(tree.target(child.node));
    for (const auto& [name, value] : tree.xattrs(child.node)) out.append(" ").append(name).append("=").append(value);
    if (node.type == NodeType::kDirectory) out.append(" {").append(words(tree, child.node)).append("}");
    out.append("\n");
  }
  return out;
}

}  // namespace

// An archive's tree, written as an index and read back, is the same; put over an empty image nothing goes wrong.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view archive(reinterpret_cast<const char*>(data), size);
  LayerTreeBuilder builder({.max_nodes = 4096, .max_text_bytes = 1U << 20, .max_xattr_bytes = 1U << 20});
  TarReader reader({.max_entries = 4096}, builder);
  if (!reader.push(as_bytes(archive)) || !reader.finish()) return 0;
  LayerStats stats;
  const LayerTree tree = builder.take(stats);
  static const berth::UniqueFd file(::memfd_create("index", MFD_CLOEXEC));
  if (::ftruncate(file.get(), 0) != 0 || ::lseek(file.get(), 0, SEEK_SET) != 0) std::abort();
  const std::uint64_t padded = (size + 511) / 512 * 512;
  const auto written = write_erofs(tree, {.block_bits = 9, .archive_bytes = {padded}}, file.get());
  if (!written) {
    if (written.error().code() != berth::Code::kUnsupported) std::abort();
    return 0;
  }
  if (::lseek(file.get(), 0, SEEK_SET) != 0) std::abort();
  const auto bytes = berth::os::read_all(file.get(), 1U << 28);
  if (!bytes || bytes->size() != *written) std::abort();
  const auto index = read_erofs(*bytes);
  if (!index || words(index->tree, kRootNode) != words(tree, kRootNode)) std::abort();
  LayerTree image;
  berth::ignore(put_layer_over(image, index->tree, 0), "any answer is right");
  berth::ignore(put_layer_over(image, tree, 1), "any answer is right");
  return 0;
}
