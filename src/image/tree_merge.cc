#include "image/tree_merge.h"

#include <unordered_map>

#include "image/printable.h"

namespace berth::image {
namespace {

class Merge final {
 public:
  Merge(LayerTree& image, const LayerTree& layer, std::uint16_t archive)
      : image_(image), layer_(layer), archive_(archive) {}

  Result<> run() {
    if (layer_.at(kRootNode).opaque) image_.clear(kRootNode);
    if (!layer_.at(kRootNode).implied) BERTH_TRY(copy_attributes(kRootNode, kRootNode), "root");
    pairs_.push_back({kRootNode, kRootNode});
    while (!pairs_.empty()) {
      const Pair pair = pairs_.back();
      pairs_.pop_back();
      for (const auto& child : layer_.children(pair.above)) {
        if (auto done = put(pair.below, child); !done) return done;
      }
    }
    return {};
  }

 private:
  struct Pair {
    NodeId below = 0;  ///< in image_
    NodeId above = 0;  ///< in layer_
  };

  Result<> put(NodeId folder, const LayerTree::Child& child);
  Result<> put_directory(NodeId folder, const LayerTree::Child& child);
  Result<NodeId> add(NodeId folder, const LayerTree::Child& child);
  Result<> copy_attributes(NodeId below, NodeId above);

  LayerTree& image_;
  const LayerTree& layer_;
  std::uint16_t archive_;
  std::vector<Pair> pairs_;                    ///< folders still to be merged
  std::unordered_map<NodeId, NodeId> linked_;  ///< files with several names: layer_ to image_
};

Result<> Merge::put(NodeId folder, const LayerTree::Child& child) {
  const Node& node = layer_.at(child.node);
  if (node.type == NodeType::kDirectory) return put_directory(folder, child);
  image_.remove(folder, child.name);
  if (node.type == NodeType::kWhiteout) return {};
  if (node.links > 1) {
    if (const auto first = linked_.find(child.node); first != linked_.end()) {
      return image_.link(folder, child.name, first->second);
    }
  }
  BERTH_ASSIGN(const NodeId id, add(folder, child), "add");
  if (node.links > 1) linked_.emplace(child.node, id);
  return {};
}

Result<> Merge::put_directory(NodeId folder, const LayerTree::Child& child) {
  const Node& node = layer_.at(child.node);
  const auto below = image_.find(folder, child.name);
  if (below && image_.at(*below).type == NodeType::kDirectory) {
    if (node.opaque) image_.clear(*below);
    if (!node.implied) BERTH_TRY(copy_attributes(*below, child.node), "folder");
    pairs_.push_back({*below, child.node});
    return {};
  }
  if (below && node.implied && !node.opaque && image_.at(*below).type == NodeType::kSymlink) {
    return fail(Code::kUnsupported,
                "the layer puts files below \"" + printable(child.name) + "\", which is a link in a lower layer");
  }
  if (below) image_.remove(folder, child.name);
  BERTH_ASSIGN(const NodeId id, add(folder, child), "add");
  image_.at(id).opaque = false;
  pairs_.push_back({id, child.node});
  return {};
}

Result<NodeId> Merge::add(NodeId folder, const LayerTree::Child& child) {
  Node node = layer_.at(child.node);
  node.archive = archive_;
  Result<NodeId> id = node.type == NodeType::kSymlink
                          ? image_.add_symlink(folder, child.name, node, layer_.target(child.node))
                          : image_.add(folder, child.name, node);
  if (!id) return id;
  if (auto done = image_.set_xattrs(*id, layer_.xattrs(child.node)); !done) return fail(std::move(done).error());
  return id;
}

Result<> Merge::copy_attributes(NodeId below, NodeId above) {
  const Node& from = layer_.at(above);
  Node& to = image_.at(below);
  to.mode = from.mode;
  to.uid = from.uid;
  to.gid = from.gid;
  to.mtime_s = from.mtime_s;
  to.mtime_ns = from.mtime_ns;
  to.implied = false;
  return image_.set_xattrs(below, layer_.xattrs(above));
}

}  // namespace

Result<> put_layer_over(LayerTree& image, const LayerTree& layer, std::uint16_t archive) {
  return Merge(image, layer, archive).run();
}

}  // namespace berth::image
