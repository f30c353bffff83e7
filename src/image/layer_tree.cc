#include "image/layer_tree.h"

#include <algorithm>
#include <functional>

namespace berth::image {
namespace {

constexpr std::uint32_t kFree = UINT32_MAX;
constexpr std::uint32_t kGone = UINT32_MAX - 1;  ///< a name was here: the search goes on

std::size_t hash_of(NodeId directory, std::string_view name) {
  return std::hash<std::string_view>{}(name) ^ (std::size_t{directory} * 0x9E3779B97F4A7C15ULL);
}

}  // namespace

LayerTree::LayerTree(const TreeLimits& limits) : limits_(limits), slots_(64, kFree) {
  Node root;
  root.type = NodeType::kDirectory;
  root.mode = 0755;
  root.links = 1;
  root.implied = true;
  nodes_.push_back(root);
}

std::size_t LayerTree::slot_of(NodeId directory, std::string_view name) const {
  const std::size_t mask = slots_.size() - 1;
  std::optional<std::size_t> reusable;
  for (std::size_t at = hash_of(directory, name) & mask;; at = (at + 1) & mask) {
    const std::uint32_t index = slots_[at];
    if (index == kFree) return reusable.value_or(at);
    if (index == kGone) {
      if (!reusable) reusable = at;
    } else if (names_[index].directory == directory && text_of(names_[index]) == name) {
      return at;
    }
  }
}

void LayerTree::grow() {
  if (used_slots_ * 2 < slots_.size()) return;
  std::vector<std::uint32_t> old(slots_.size() * 2, kFree);
  old.swap(slots_);
  used_slots_ = 0;
  for (const std::uint32_t index : old) {
    if (index >= kGone) continue;
    slots_[slot_of(names_[index].directory, text_of(names_[index]))] = index;
    ++used_slots_;
  }
}

std::optional<NodeId> LayerTree::find(NodeId directory, std::string_view name) const {
  const std::uint32_t index = slots_[slot_of(directory, name)];
  if (index >= kGone) return std::nullopt;
  return names_[index].node;
}

std::optional<NodeId> LayerTree::find_path(std::string_view path) const {
  NodeId at = kRootNode;
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    const auto next = find(at, path.substr(0, slash));
    if (!next) return std::nullopt;
    at = *next;
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
  }
  return at;
}

std::vector<LayerTree::Child> LayerTree::children(NodeId directory) const {
  std::vector<Child> out;
  for (std::uint32_t i = nodes_[directory].first_child; i != kNothing; i = names_[i].next) {
    out.push_back({text_of(names_[i]), names_[i].node});
  }
  std::sort(out.begin(), out.end(), [](const Child& a, const Child& b) { return a.name < b.name; });
  return out;
}

bool LayerTree::has_children(NodeId directory) const {
  return nodes_[directory].first_child != kNothing;
}

Result<std::uint32_t> LayerTree::keep_text(std::string_view text) {
  if (texts_.size() + text.size() > limits_.max_text_bytes) {
    return fail(Code::kExhausted, "its names exceed " + std::to_string(limits_.max_text_bytes) + " bytes");
  }
  const auto at = static_cast<std::uint32_t>(texts_.size());
  texts_ += text;
  return at;
}

Result<> LayerTree::put(NodeId directory, std::string_view name, NodeId node) {
  if (name.empty() || name.size() > 255)
    return fail(Code::kCorrupt, "a name of " + std::to_string(name.size()) + " bytes");
  if (names_.size() >= limits_.max_nodes) {
    return fail(Code::kExhausted, "it has more than " + std::to_string(limits_.max_nodes) + " files");
  }
  BERTH_ASSIGN(const std::uint32_t text, keep_text(name), "names");
  grow();
  const std::size_t slot = slot_of(directory, name);
  if (slots_[slot] == kFree) ++used_slots_;
  slots_[slot] = static_cast<std::uint32_t>(names_.size());
  Node& parent = nodes_[directory];
  if (parent.first_child != kNothing) names_[parent.first_child].previous = slots_[slot];
  names_.push_back({text, directory, node, parent.first_child, kNothing, static_cast<std::uint8_t>(name.size())});
  parent.first_child = slots_[slot];
  ++nodes_[node].links;
  return {};
}

Result<NodeId> LayerTree::add(NodeId directory, std::string_view name, const Node& node) {
  const auto id = static_cast<NodeId>(nodes_.size());
  nodes_.push_back(node);
  Node& added = nodes_.back();
  added.links = 0;
  added.xattrs = kNothing;
  added.first_child = kNothing;
  if (auto done = put(directory, name, id); !done) {
    nodes_.pop_back();
    return fail(std::move(done).error());
  }
  return id;
}

Result<NodeId> LayerTree::add_symlink(NodeId directory, std::string_view name, Node node, std::string_view target) {
  BERTH_ASSIGN(node.data, keep_text(target), "symlink");
  node.size = target.size();
  node.type = NodeType::kSymlink;
  return add(directory, name, node);
}

Result<> LayerTree::link(NodeId directory, std::string_view name, NodeId node) {
  return put(directory, name, node);
}

/// A node has lost a name; of a folder, all in it goes.
void LayerTree::drop(NodeId node) {
  if (--nodes_[node].links == 0 && nodes_[node].type == NodeType::kDirectory) clear(node);
}

void LayerTree::clear(NodeId directory) {
  std::vector<NodeId> folders = {directory};
  while (!folders.empty()) {
    const NodeId folder = folders.back();
    folders.pop_back();
    std::uint32_t index = std::exchange(nodes_[folder].first_child, kNothing);
    for (; index != kNothing; index = names_[index].next) {
      const Name& name = names_[index];
      slots_[slot_of(folder, text_of(name))] = kGone;
      Node& child = nodes_[name.node];
      --child.links;
      if (child.type == NodeType::kDirectory) folders.push_back(name.node);
    }
  }
}

void LayerTree::remove(NodeId directory, std::string_view name) {
  const std::size_t slot = slot_of(directory, name);
  const std::uint32_t index = slots_[slot];
  if (index >= kGone) return;
  slots_[slot] = kGone;
  const Name& gone = names_[index];
  if (gone.next != kNothing) names_[gone.next].previous = gone.previous;
  (gone.previous == kNothing ? nodes_[directory].first_child : names_[gone.previous].next) = gone.next;
  drop(gone.node);
}

std::string_view LayerTree::target(NodeId symlink) const {
  return std::string_view(texts_).substr(nodes_[symlink].data, nodes_[symlink].size);
}

Result<> LayerTree::set_xattrs(NodeId id, const Xattrs& xattrs) {
  if (xattrs.empty()) {
    nodes_[id].xattrs = kNothing;
    return {};
  }
  if (const auto known = known_xattrs_.find(xattrs); known != known_xattrs_.end()) {
    nodes_[id].xattrs = known->second;
    return {};
  }
  std::uint64_t bytes = 0;
  for (const auto& [name, value] : xattrs) bytes += name.size() + value.size();
  if (xattr_bytes_ + bytes > limits_.max_xattr_bytes) {
    return fail(Code::kExhausted,
                "its extended attributes exceed " + std::to_string(limits_.max_xattr_bytes) + " bytes");
  }
  xattr_bytes_ += bytes;
  const auto index = static_cast<std::uint32_t>(xattrs_.size());
  xattrs_.push_back(xattrs);
  known_xattrs_.emplace(xattrs, index);
  nodes_[id].xattrs = index;
  return {};
}

const Xattrs& LayerTree::xattrs(NodeId id) const {
  static const Xattrs kEmpty;
  return nodes_[id].xattrs == kNothing ? kEmpty : xattrs_[nodes_[id].xattrs];
}

std::vector<std::string> LayerTree::implied_directories() const {
  std::vector<std::string> out;
  std::vector<std::pair<NodeId, std::string>> folders = {{kRootNode, ""}};
  while (!folders.empty()) {
    const auto [folder, path] = std::move(folders.back());
    folders.pop_back();
    if (nodes_[folder].implied) out.push_back(path);
    for (std::uint32_t i = nodes_[folder].first_child; i != kNothing; i = names_[i].next) {
      if (nodes_[names_[i].node].type != NodeType::kDirectory) continue;
      std::string below = path.empty() ? std::string() : path + "/";
      folders.emplace_back(names_[i].node, below.append(text_of(names_[i])));
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace berth::image
