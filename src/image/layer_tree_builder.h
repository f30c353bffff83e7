#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "image/layer_tree.h"
#include "image/layer_writer.h"
#include "image/tar_entry.h"

namespace berth::image {

/// Makes the tree of one layer from its archive's entries, with the same rules and the same errors as LayerWriter,
/// which unpacks them: links on the way are followed inside the layer alone, later entries replace earlier ones. Data
/// stay in the archive: the tree says where. Not thread-safe. Source: image-spec layer.md.
class LayerTreeBuilder final : public TarSink {
 public:
  /// An entry that says it is larger than `max_bytes` is refused at once.
  explicit LayerTreeBuilder(const TreeLimits& limits = {}, std::uint64_t max_bytes = UINT64_MAX)
      : tree_(limits), max_bytes_(max_bytes) {}

  Result<> entry(const TarEntry& entry) override;
  Result<> data(Bytes /*bytes*/) override { return {}; }
  Result<> end_entry() override { return {}; }

  /// The tree and what it amounts to, `bytes` and `inodes` aside. Call once, after the archive's end.
  [[nodiscard]] LayerTree take(LayerStats& stats);

 private:
  using Folders = std::vector<NodeId>;  ///< from the root to where we are

  Result<> walk(Folders& at, std::string_view path, bool make, unsigned& links);
  Result<> enter(Folders& at, std::string_view name, bool make, unsigned& links);
  Result<NodeId> folder_of(std::string_view path);
  Result<> whiteout(NodeId folder, std::string_view name);
  Result<> create(NodeId folder, std::string_view name, const TarEntry& entry);
  Result<> create_directory(NodeId folder, std::string_view name, const TarEntry& entry);
  Result<> create_hard_link(NodeId folder, std::string_view name, const TarEntry& entry);
  Result<> set_attributes(NodeId id, const TarEntry& entry);

  LayerTree tree_;
  std::uint64_t max_bytes_;
  const TarEntry* current_ = nullptr;  ///< during entry()
  LayerStats stats_;
};

}  // namespace berth::image
