#include "image/erofs_writer.h"

#include <sys/stat.h>

#include <algorithm>

#include "image/erofs_format.h"
#include "os/file.h"

namespace berth::image {
namespace {

using erofs::Inode;
using erofs::Layout;
using erofs::put;
using erofs::round_up;
using erofs::Super;

constexpr std::size_t kBufferBytes = 256U << 10;

struct Placed {
  std::uint64_t offset = 0;      ///< of the inode, from the start of the image
  std::uint64_t data_block = 0;  ///< folders and long symlinks: first block of what is not inline
  std::uint64_t size = 0;        ///< i_size
  std::uint32_t inline_bytes = 0;
  NodeId parent = 0;  ///< folders
  Layout layout = Layout::kPlain;
  bool placed = false;
};

erofs::FileType file_type(NodeType type) {
  switch (type) {
    case NodeType::kFile:
      return erofs::FileType::kRegular;
    case NodeType::kDirectory:
      return erofs::FileType::kDirectory;
    case NodeType::kSymlink:
      return erofs::FileType::kSymlink;
    case NodeType::kCharDevice:
    case NodeType::kWhiteout:
      return erofs::FileType::kCharDevice;
    case NodeType::kBlockDevice:
      return erofs::FileType::kBlockDevice;
    case NodeType::kFifo:
      return erofs::FileType::kFifo;
  }
  return erofs::FileType::kUnknown;
}

std::uint16_t mode_of(const Node& node) {
  constexpr std::uint32_t kTypes[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFCHR};
  return static_cast<std::uint16_t>(kTypes[static_cast<std::size_t>(node.type)] | node.mode);
}

/// The attributes as they follow an inode; empty when it has none.
Result<std::string> encode_xattrs(const Node& node, const Xattrs& xattrs) {
  std::string out;
  const auto append = [&out](std::string_view name, std::string_view value) {
    for (const erofs::XattrPrefix& prefix : erofs::kXattrPrefixes) {
      if (!name.starts_with(prefix.text)) continue;
      const std::string_view rest = name.substr(prefix.text.size());
      if (rest.size() > 255 || value.size() > UINT16_MAX) return false;
      char header[erofs::kXattrEntrySize];
      put(header, 0, static_cast<std::uint8_t>(rest.size()));
      put(header, 1, prefix.index);
      put(header, 2, static_cast<std::uint16_t>(value.size()));
      out.append(header, sizeof header).append(rest).append(value);
      out.resize(round_up(out.size(), 4));
      return true;
    }
    return false;
  };
  if (!node.opaque && xattrs.empty()) return out;
  out.resize(erofs::kXattrHeaderSize);
  bool good = true;
  for (const auto& [name, value] : xattrs) good = good && append(name, value);
  if (node.opaque) good = good && append(erofs::kOpaqueXattr, "y");
  if (!good || (out.size() - erofs::kXattrHeaderSize) / 4 + 1 > UINT16_MAX) {
    return fail(Code::kUnsupported, "extended attributes that are too large for EROFS");
  }
  return out;
}

/// One folder's names with what EROFS wants among them.
std::vector<LayerTree::Child> entries_of(const LayerTree& tree, NodeId folder, NodeId parent) {
  auto out = tree.children(folder);
  for (const LayerTree::Child dot : {LayerTree::Child{".", folder}, LayerTree::Child{"..", parent}}) {
    const auto at =
        std::lower_bound(out.begin(), out.end(), dot, [](const auto& a, const auto& b) { return a.name < b.name; });
    out.insert(at, dot);
  }
  return out;
}

/// Buffered writing at the end.
class Output final {
 public:
  explicit Output(int fd) : fd_(fd) { buffer_.reserve(kBufferBytes + 4096); }
  Result<> write(std::string_view bytes) {
    buffer_ += bytes;
    written_ += bytes.size();
    return buffer_.size() < kBufferBytes ? Result<>() : flush();
  }
  /// Zeros up to offset `end`.
  Result<> pad_to(std::uint64_t end) {
    while (written_ < end) {
      static constexpr char kZeros[4096] = {};
      BERTH_TRY(write({kZeros, static_cast<std::size_t>(std::min<std::uint64_t>(sizeof kZeros, end - written_))}),
                "pad");
    }
    return {};
  }
  Result<> flush() {
    auto done = os::write_all(fd_, buffer_);
    buffer_.clear();
    return done;
  }
  [[nodiscard]] std::uint64_t written() const { return written_; }

 private:
  int fd_;
  std::string buffer_;
  std::uint64_t written_ = 0;
};

class Writer final {
 public:
  Writer(const LayerTree& tree, const ErofsOptions& options, int fd)
      : tree_(tree), options_(options), block_(std::uint64_t{1} << options.block_bits), out_(fd) {}

  Result<std::uint64_t> run() {
    BERTH_TRY(place(), "place");
    BERTH_TRY(map_archives(), "devices");
    BERTH_TRY(write_head(), "write");
    for (const NodeId id : order_) BERTH_TRY(write_inode(id), "write");
    BERTH_TRY(out_.pad_to(data_start_), "write");
    for (const NodeId id : order_) BERTH_TRY(write_data(id), "write");
    BERTH_TRY(out_.flush(), "write");
    return out_.written();
  }

 private:
  Result<> place();
  Result<> place_inode(NodeId id);
  [[nodiscard]] std::uint64_t folder_bytes(NodeId id, NodeId parent) const;
  Result<> map_archives();
  Result<> write_head();
  Result<> write_inode(NodeId id);
  Result<> write_data(NodeId id);
  [[nodiscard]] Result<std::uint32_t> data_block(NodeId id, const Node& node) const;
  [[nodiscard]] std::string content(NodeId id) const;
  [[nodiscard]] std::string folder_content(NodeId id) const;

  const LayerTree& tree_;
  const ErofsOptions& options_;
  const std::uint64_t block_;
  Output out_;
  std::vector<Placed> places_;
  std::vector<NodeId> order_;
  std::uint64_t next_ = 0;             ///< where the next inode may start
  std::uint64_t data_start_ = 0;       ///< of what is not inline
  std::uint64_t data_blocks_ = 0;      ///< behind data_start_
  std::vector<std::uint64_t> mapped_;  ///< first block of each archive in the address space of all devices
  std::uint64_t inodes_ = 0;
};

/// Folders are visited as find(1) does; the nodes in one lie together, since who reads a folder looks at them next.
Result<> Writer::place() {
  places_.resize(tree_.size());
  next_ = round_up(erofs::kSuperOffset + erofs::kSuperSize + erofs::kDeviceSlotSize * options_.archive_bytes.size(),
                   block_);
  places_[kRootNode].parent = kRootNode;
  BERTH_TRY(place_inode(kRootNode), "root");
  std::vector<NodeId> folders = {kRootNode};
  while (!folders.empty()) {
    const NodeId folder = folders.back();
    folders.pop_back();
    const auto children = tree_.children(folder);
    for (const auto& child : children) {
      if (places_[child.node].placed) continue;  // another name of it
      if (tree_.at(child.node).type == NodeType::kDirectory) places_[child.node].parent = folder;
      BERTH_TRY(place_inode(child.node), child.name);
    }
    for (auto child = children.rbegin(); child != children.rend(); ++child) {
      if (tree_.at(child->node).type == NodeType::kDirectory) folders.push_back(child->node);
    }
  }
  data_start_ = round_up(next_, block_);
  return {};
}

std::uint64_t Writer::folder_bytes(NodeId id, NodeId parent) const {
  std::uint64_t full = 0;
  std::uint64_t fill = 0;
  for (const auto& entry : entries_of(tree_, id, parent)) {
    const std::uint64_t wanted = erofs::kDirentSize + entry.name.size();
    if (fill + wanted > block_) {
      full += block_;
      fill = 0;
    }
    fill += wanted;
  }
  return full + fill;
}

Result<> Writer::place_inode(NodeId id) {
  const Node& node = tree_.at(id);
  Placed& place = places_[id];
  place.placed = true;
  place.size = node.type == NodeType::kDirectory ? folder_bytes(id, place.parent) : node.size;
  BERTH_ASSIGN(const std::string xattrs, encode_xattrs(node, tree_.xattrs(id)), "attributes");
  const std::uint64_t fixed = erofs::kInodeSize + xattrs.size();
  const bool own_data = node.type == NodeType::kDirectory || node.type == NodeType::kSymlink;
  const std::uint64_t tail = own_data ? place.size % block_ : 0;
  if (tail != 0 && fixed % block_ + tail <= block_) {
    place.layout = Layout::kInline;
    place.inline_bytes = static_cast<std::uint32_t>(tail);
  }
  // Neither an inode's fixed part nor what is inline may lie across two blocks.
  std::uint64_t at = round_up(next_, erofs::kSlotSize);
  const bool crosses = at % block_ + erofs::kInodeSize > block_ || (at + fixed) % block_ + place.inline_bytes > block_;
  if (crosses) at = round_up(at, block_);
  place.offset = at;
  next_ = at + fixed + place.inline_bytes;
  ++inodes_;
  order_.push_back(id);
  if (own_data) {
    place.data_block = data_blocks_;
    data_blocks_ += (place.size - place.inline_bytes + block_ - 1) / block_;
  }
  return {};
}

Result<> Writer::map_archives() {
  std::uint64_t next = data_start_ / block_ + data_blocks_;
  for (const std::uint64_t bytes : options_.archive_bytes) {
    mapped_.push_back(next);
    next += std::max<std::uint64_t>(1, (bytes + block_ - 1) / block_);
  }
  if (next > UINT32_MAX) return fail(Code::kUnsupported, "the image is too large for EROFS");
  if (options_.archive_bytes.size() > erofs::kMaxDevices) return fail(Code::kUnsupported, "too many layers for EROFS");
  return {};
}

Result<> Writer::write_head() {
  std::string head(places_[kRootNode].offset, '\0');
  char* super = head.data() + erofs::kSuperOffset;
  put(super, Super::kMagicAt, erofs::kMagic);
  put(super, Super::kBlockBits, static_cast<std::uint8_t>(options_.block_bits));
  put(super, Super::kRootNid, static_cast<std::uint16_t>(places_[kRootNode].offset / erofs::kSlotSize));
  put(super, Super::kInodes, inodes_);
  put(super, Super::kBlocks, static_cast<std::uint32_t>(data_start_ / block_ + data_blocks_));
  put(super, Super::kIncompat, erofs::kIncompatDeviceTable);
  put(super, Super::kExtraDevices, static_cast<std::uint16_t>(mapped_.size()));
  constexpr std::size_t kSlots = erofs::kSuperOffset + erofs::kSuperSize;
  put(super, Super::kDeviceSlot, static_cast<std::uint16_t>(kSlots / erofs::kDeviceSlotSize));
  for (std::size_t i = 0; i < mapped_.size(); ++i) {
    char* slot = head.data() + kSlots + i * erofs::kDeviceSlotSize;
    const std::uint64_t blocks = std::max<std::uint64_t>(1, (options_.archive_bytes[i] + block_ - 1) / block_);
    put(slot, erofs::Device::kBlocks, static_cast<std::uint32_t>(blocks));
    put(slot, erofs::Device::kMappedBlock, static_cast<std::uint32_t>(mapped_[i]));
  }
  return out_.write(head);
}

Result<std::uint32_t> Writer::data_block(NodeId id, const Node& node) const {
  const bool device = node.type == NodeType::kCharDevice || node.type == NodeType::kBlockDevice;
  if (device) return erofs::device_code(node.device_major, node.device_minor);
  if (node.type == NodeType::kDirectory || node.type == NodeType::kSymlink) {
    return static_cast<std::uint32_t>(data_start_ / block_ + places_[id].data_block);
  }
  if (node.type != NodeType::kFile || node.size == 0) return 0;
  if (node.archive >= mapped_.size()) return fail(Code::kInternal, "data of an archive that is not listed");
  const std::uint64_t end = options_.archive_bytes[node.archive];
  if (node.data % block_ != 0 || node.data > end || node.size > end - node.data) {
    return fail(Code::kUnsupported, "data that are not whole blocks of their archive");
  }
  return static_cast<std::uint32_t>(mapped_[node.archive] + node.data / block_);
}

Result<> Writer::write_inode(NodeId id) {
  const Node& node = tree_.at(id);
  const Placed& place = places_[id];
  std::uint32_t links = node.links;
  if (node.type == NodeType::kDirectory) {
    links = 2;
    for (const auto& child : tree_.children(id)) links += tree_.at(child.node).type == NodeType::kDirectory ? 1 : 0;
  }
  BERTH_ASSIGN(const std::string xattrs, encode_xattrs(node, tree_.xattrs(id)), "attributes");
  BERTH_ASSIGN(const std::uint32_t block, data_block(id, node), "data");
  BERTH_TRY(out_.pad_to(place.offset), "pad");
  char inode[erofs::kInodeSize] = {};
  put(inode, Inode::kFormat, erofs::format_of(place.layout));
  if (!xattrs.empty()) {
    const std::size_t count = (xattrs.size() - erofs::kXattrHeaderSize) / 4 + 1;
    put(inode, Inode::kXattrCount, static_cast<std::uint16_t>(count));
  }
  put(inode, Inode::kMode, mode_of(node));
  put(inode, Inode::kSize, place.size);
  put(inode, Inode::kBlockOrDevice, block);
  put(inode, Inode::kNumber, static_cast<std::uint32_t>(id + 1));
  put(inode, Inode::kUid, node.uid);
  put(inode, Inode::kGid, node.gid);
  put(inode, Inode::kTime, node.mtime_s);
  put(inode, Inode::kTimeNs, node.mtime_ns);
  put(inode, Inode::kLinks, links);
  BERTH_TRY(out_.write({inode, sizeof inode}), "inode");
  BERTH_TRY(out_.write(xattrs), "attributes");
  if (place.inline_bytes == 0) return {};
  const std::string bytes = content(id);
  return out_.write(std::string_view(bytes).substr(bytes.size() - place.inline_bytes));
}

Result<> Writer::write_data(NodeId id) {
  const Placed& place = places_[id];
  const NodeType type = tree_.at(id).type;
  if ((type != NodeType::kDirectory && type != NodeType::kSymlink) || place.size == place.inline_bytes) return {};
  const std::string bytes = content(id);
  BERTH_TRY(out_.write(std::string_view(bytes).substr(0, bytes.size() - place.inline_bytes)), "data");
  return out_.pad_to(round_up(out_.written(), block_));
}

std::string Writer::content(NodeId id) const {
  if (tree_.at(id).type == NodeType::kSymlink) return std::string(tree_.target(id));
  return folder_content(id);
}

/// Blocks of entries, each with its names behind them.
std::string Writer::folder_content(NodeId id) const {
  std::string out;
  const auto entries = entries_of(tree_, id, places_[id].parent);
  for (std::size_t first = 0; first < entries.size();) {
    std::size_t last = first;
    std::uint64_t fill = 0;
    while (last < entries.size() && fill + erofs::kDirentSize + entries[last].name.size() <= block_) {
      fill += erofs::kDirentSize + entries[last++].name.size();
    }
    std::string heads((last - first) * erofs::kDirentSize, '\0');
    std::string names;
    for (std::size_t i = first; i < last; ++i) {
      char* head = heads.data() + (i - first) * erofs::kDirentSize;
      put(head, 0, places_[entries[i].node].offset / erofs::kSlotSize);
      put(head, 8, static_cast<std::uint16_t>(heads.size() + names.size()));
      put(head, 10, static_cast<std::uint8_t>(file_type(tree_.at(entries[i].node).type)));
      names += entries[i].name;
    }
    out += heads;
    out += names;
    if (last < entries.size()) out.resize(round_up(out.size(), block_));
    first = last;
  }
  return out;
}

}  // namespace

Result<std::uint64_t> write_erofs(const LayerTree& tree, const ErofsOptions& options, int fd) {
  return Writer(tree, options, fd).run();
}

}  // namespace berth::image
