#include "image/layer_tree_builder.h"

#include "base/strings.h"
#include "image/layer_names.h"
#include "image/printable.h"

namespace berth::image {
namespace {

constexpr unsigned kMaxLinks = 40;  // as the kernel has it

std::unexpected<Error> corrupt(std::string what) {
  return fail(Code::kCorrupt, std::move(what));
}

NodeType type_of(const TarEntry& entry) {
  switch (entry.type) {
    case TarType::kSymlink:
      return NodeType::kSymlink;
    case TarType::kCharDevice:
      // What overlayfs itself calls a whiteout is one here too.
      return entry.device_major == 0 && entry.device_minor == 0 ? NodeType::kWhiteout : NodeType::kCharDevice;
    case TarType::kBlockDevice:
      return NodeType::kBlockDevice;
    case TarType::kDirectory:
      return NodeType::kDirectory;
    case TarType::kFifo:
      return NodeType::kFifo;
    case TarType::kFile:
    case TarType::kHardLink:
      break;
  }
  return NodeType::kFile;
}

Node node_of(const TarEntry& entry) {
  Node out;
  out.type = type_of(entry);
  out.size = entry.size;
  out.data = entry.data_offset;
  out.device_major = entry.device_major;
  out.device_minor = entry.device_minor;
  return out;
}

/// A folder of which is known only that `below` lies in it.
Node implied_directory(const TarEntry& below) {
  Node out;
  out.type = NodeType::kDirectory;
  out.mode = 0755;
  out.mtime_s = below.mtime_s;
  out.mtime_ns = below.mtime_ns;
  out.implied = true;
  return out;
}

}  // namespace

/// Goes on from the folder `at` along `path`. `make`: folders that are missing are implied by what lies below them.
Result<> LayerTreeBuilder::walk(Folders& at, std::string_view path, bool make, unsigned& links) {
  if (path.starts_with('/')) at.resize(1);
  for (const std::string_view part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (at.size() > 1) at.pop_back();
      continue;
    }
    if (auto entered = enter(at, part, make, links); !entered) return entered;
  }
  return {};
}

Result<> LayerTreeBuilder::enter(Folders& at, std::string_view name, bool make, unsigned& links) {
  auto next = tree_.find(at.back(), name);
  const bool hidden = next && tree_.at(*next).type == NodeType::kWhiteout;
  if ((!next || hidden) && make) {
    Node folder = implied_directory(*current_);
    folder.opaque = hidden;
    if (hidden) tree_.remove(at.back(), name);
    BERTH_ASSIGN(next, tree_.add(at.back(), name, folder), "parent directory");
  }
  if (!next) return corrupt("a link on its path leads nowhere");
  if (tree_.at(*next).type == NodeType::kDirectory) {
    at.push_back(*next);
    return {};
  }
  if (tree_.at(*next).type != NodeType::kSymlink) {
    return corrupt("\"" + printable(name) + "\" on its path is no directory");
  }
  if (++links > kMaxLinks) return corrupt("the links on its path go in circles");
  const std::string target(tree_.target(*next));
  return walk(at, target, false, links);
}

Result<NodeId> LayerTreeBuilder::folder_of(std::string_view path) {
  Folders at = {kRootNode};
  unsigned links = 0;
  if (auto walked = walk(at, path, true, links); !walked) return fail(std::move(walked).error());
  return at.back();
}

Result<> LayerTreeBuilder::set_attributes(NodeId id, const TarEntry& entry) {
  Node& node = tree_.at(id);
  node.mode = static_cast<std::uint16_t>(node.type == NodeType::kSymlink ? 0777 : entry.mode);
  node.uid = entry.uid;
  node.gid = entry.gid;
  node.mtime_s = entry.mtime_s;
  node.mtime_ns = entry.mtime_ns;
  node.implied = false;
  if (entry.xattrs.empty()) return tree_.set_xattrs(id, {});
  Xattrs kept;
  for (const auto& [name, value] : entry.xattrs) {
    // Of symlinks and devices overlayfs and the kernel want none, and nobody would read them.
    const bool holds = node.type == NodeType::kFile || node.type == NodeType::kDirectory;
    if (holds && keep_xattr(name)) {
      kept.emplace_back(name, value);
    } else {
      ++stats_.dropped_xattrs;
    }
  }
  return tree_.set_xattrs(id, kept);
}

Result<> LayerTreeBuilder::entry(const TarEntry& entry) {
  if (entry.size > max_bytes_) return too_large(entry, max_bytes_);
  current_ = &entry;
  BERTH_ASSIGN(const std::string path, clean_layer_path(entry.path), "unpack: path");
  const std::size_t slash = path.rfind('/');
  const std::string_view leaf = slash == std::string::npos ? path : std::string_view(path).substr(slash + 1);
  if (leaf.empty()) {  // "./": the root itself
    if (entry.type != TarType::kDirectory) return corrupt("the root of the layer is no directory");
    stats_.has_root_entry = true;
    return set_attributes(kRootNode, entry);
  }
  const std::string_view above = slash == std::string::npos ? "" : std::string_view(path).substr(0, slash);
  BERTH_ASSIGN(const NodeId folder, folder_of(above), "unpack");
  auto done = leaf.starts_with(kWhiteoutPrefix) ? whiteout(folder, leaf) : create(folder, leaf, entry);
  if (!done) return fail(std::move(done).error().in("unpack"));
  return {};
}

Result<> LayerTreeBuilder::whiteout(NodeId folder, std::string_view name) {
  if (name == kOpaqueName) {
    tree_.at(folder).opaque = true;
    return {};
  }
  if (name.starts_with(kAufsPrefix)) return {};
  const std::string_view hidden = name.substr(kWhiteoutPrefix.size());
  if (hidden.empty() || hidden == "." || hidden == "..") {
    return corrupt("a whiteout of \"" + std::string(hidden) + "\"");
  }
  // The layer may have the name too. A whiteout hides lower layers only, which a file does anyway and a directory when
  // opaque.
  if (const auto there = tree_.find(folder, hidden)) {
    if (tree_.at(*there).type == NodeType::kDirectory) tree_.at(*there).opaque = true;
    return {};
  }
  Node node;
  node.type = NodeType::kWhiteout;
  BERTH_TRY(tree_.add(folder, hidden, node), "whiteout");
  return {};
}

Result<> LayerTreeBuilder::create(NodeId folder, std::string_view name, const TarEntry& entry) {
  if (entry.type == TarType::kDirectory) return create_directory(folder, name, entry);
  if (entry.type == TarType::kHardLink) return create_hard_link(folder, name, entry);
  if (entry.type == TarType::kSymlink && entry.link.empty()) return corrupt("a symlink to nothing");
  tree_.remove(folder, name);
  const Node node = node_of(entry);
  auto added = entry.type == TarType::kSymlink ? tree_.add_symlink(folder, name, node, entry.link)
                                               : tree_.add(folder, name, node);
  if (!added) return fail(std::move(added).error());
  return set_attributes(*added, entry);
}

Result<> LayerTreeBuilder::create_directory(NodeId folder, std::string_view name, const TarEntry& entry) {
  const auto there = tree_.find(folder, name);
  if (there && tree_.at(*there).type == NodeType::kDirectory) return set_attributes(*there, entry);
  Node node = node_of(entry);
  node.opaque = there && tree_.at(*there).type == NodeType::kWhiteout;
  if (there) tree_.remove(folder, name);
  BERTH_ASSIGN(const NodeId added, tree_.add(folder, name, node), "directory");
  return set_attributes(added, entry);
}

Result<> LayerTreeBuilder::create_hard_link(NodeId folder, std::string_view name, const TarEntry& entry) {
  BERTH_ASSIGN(const std::string target, clean_layer_path(entry.link), "hard link target");
  if (target.empty()) return corrupt("a hard link to nothing");
  const std::size_t slash = target.rfind('/');
  const std::string what = "hard link target \"" + printable(entry.link) + "\"";
  Folders at = {kRootNode};
  unsigned links = 0;
  const std::string_view above = slash == std::string::npos ? "" : std::string_view(target).substr(0, slash);
  if (!walk(at, above, false, links)) return corrupt(what + " is not in this layer");
  const auto node = tree_.find(at.back(), slash == std::string::npos ? target : target.substr(slash + 1));
  if (!node || tree_.at(*node).type == NodeType::kWhiteout) return corrupt(what + " is not in this layer");
  if (tree_.at(*node).type == NodeType::kDirectory) return corrupt(what + " is a directory");
  const auto there = tree_.find(folder, name);
  if (there == node) return {};
  if (there) {
    // What is replaced may be a folder with the target in it.
    tree_.remove(folder, name);
    if (tree_.at(*node).links == 0) return corrupt(what + " is not in this layer");
  }
  return tree_.link(folder, name, *node);
}

LayerTree LayerTreeBuilder::take(LayerStats& stats) {
  stats_.root_opaque = tree_.at(kRootNode).opaque;
  stats_.implied_dirs = tree_.implied_directories();
  if (!stats_.implied_dirs.empty() && stats_.implied_dirs.front().empty()) {
    stats_.implied_dirs.erase(stats_.implied_dirs.begin());  // has_root_entry says it of the root
  }
  stats = stats_;
  return std::move(tree_);
}

}  // namespace berth::image
