#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace berth::image {

enum class NodeType : std::uint8_t { kFile, kDirectory, kSymlink, kCharDevice, kBlockDevice, kFifo, kWhiteout };

/// Index of a node in its tree.
using NodeId = std::uint32_t;
inline constexpr NodeId kRootNode = 0;
inline constexpr std::uint32_t kNothing = UINT32_MAX;

/// Extended attributes by name, in the archive's order.
using Xattrs = std::vector<std::pair<std::string, std::string>>;

/// One inode. Which fields mean something depends on `type`.
struct Node {
  std::uint64_t size = 0;  ///< kFile: bytes; kSymlink: of its target
  std::uint64_t data = 0;  ///< kFile: where its bytes start in archive `archive`; kSymlink: see LayerTree::target()
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::uint32_t links = 0;               ///< names it has; kept by LayerTree
  std::uint32_t xattrs = kNothing;       ///< kept by LayerTree
  std::uint32_t first_child = kNothing;  ///< kDirectory; kept by LayerTree
  std::uint16_t mode = 0;                ///< permission, setuid, setgid and sticky bits
  std::uint16_t archive = 0;             ///< which layer's archive holds the data
  NodeType type = NodeType::kFile;
  bool opaque = false;   ///< kDirectory: hides what lower layers have there
  bool implied = false;  ///< kDirectory: no entry of its own; something lies below it
};

/// What a tree may cost, whatever a layer says.
struct TreeLimits {
  std::uint32_t max_nodes = 2'000'000;
  std::uint64_t max_text_bytes = 256ULL << 20;  ///< names and targets of symlinks
  std::uint64_t max_xattr_bytes = 64ULL << 20;  ///< those that differ
};

/// The files of a layer or of an image without their data: about 150 bytes each. Starts with an implied root 0755.
/// Not thread-safe. Node ids stay valid; a node without a name is dead.
class LayerTree final {
 public:
  struct Child {
    std::string_view name;  ///< lives as long as the tree is not changed
    NodeId node = 0;
  };

  explicit LayerTree(const TreeLimits& limits = {});
  LayerTree(LayerTree&&) = default;
  LayerTree& operator=(LayerTree&&) = default;
  LayerTree(const LayerTree&) = delete;
  LayerTree& operator=(const LayerTree&) = delete;
  ~LayerTree() = default;

  [[nodiscard]] const Node& at(NodeId id) const { return nodes_[id]; }
  /// For attributes alone: type and what LayerTree keeps must stay.
  [[nodiscard]] Node& at(NodeId id) { return nodes_[id]; }
  [[nodiscard]] std::size_t size() const { return nodes_.size(); }

  [[nodiscard]] std::optional<NodeId> find(NodeId directory, std::string_view name) const;
  /// The names in a folder, sorted by their bytes.
  [[nodiscard]] std::vector<Child> children(NodeId directory) const;
  [[nodiscard]] bool has_children(NodeId directory) const;

  /// A new node under a name that the folder does not have yet (1 to 255 bytes, no '/'). kExhausted: a limit.
  Result<NodeId> add(NodeId directory, std::string_view name, const Node& node);
  Result<NodeId> add_symlink(NodeId directory, std::string_view name, Node node, std::string_view target);
  /// One more name of a node that is no folder.
  Result<> link(NodeId directory, std::string_view name, NodeId node);
  /// Takes a name away, with all below it.
  void remove(NodeId directory, std::string_view name);
  /// Takes away all that is in a folder.
  void clear(NodeId directory);

  [[nodiscard]] std::string_view target(NodeId symlink) const;
  Result<> set_xattrs(NodeId id, const Xattrs& xattrs);
  [[nodiscard]] const Xattrs& xattrs(NodeId id) const;
  /// Folders without an entry of their own, by path without a leading '/', sorted. The root is "".
  [[nodiscard]] std::vector<std::string> implied_directories() const;
  /// The node at `path` ("a/b", "" for the root); no symlink is followed.
  [[nodiscard]] std::optional<NodeId> find_path(std::string_view path) const;

 private:
  struct Name {
    std::uint32_t text = 0;  ///< offset in texts_
    std::uint32_t directory = 0;
    std::uint32_t node = 0;
    std::uint32_t next = kNothing;  ///< the names of one folder, newest first
    std::uint32_t previous = kNothing;
    std::uint8_t size = 0;
  };
  /// The place in slots_ of the name, or the free one where it belongs.
  [[nodiscard]] std::size_t slot_of(NodeId directory, std::string_view name) const;
  [[nodiscard]] std::string_view text_of(const Name& name) const { return {texts_.data() + name.text, name.size}; }
  void grow();
  Result<std::uint32_t> keep_text(std::string_view text);
  Result<> put(NodeId directory, std::string_view name, NodeId node);
  void drop(NodeId node);

  TreeLimits limits_;
  std::vector<Node> nodes_;
  std::vector<Name> names_;
  std::string texts_;
  std::vector<std::uint32_t> slots_;  ///< open addressing over names_: (directory, name) -> index
  std::size_t used_slots_ = 0;        ///< also those whose name is gone
  std::vector<Xattrs> xattrs_;
  std::map<Xattrs, std::uint32_t> known_xattrs_;
  std::uint64_t xattr_bytes_ = 0;
};

}  // namespace berth::image
