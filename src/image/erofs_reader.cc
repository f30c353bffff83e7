#include "image/erofs_reader.h"

#include <sys/stat.h>

#include <string>
#include <unordered_map>

#include "image/erofs_format.h"

namespace berth::image {
namespace {

using erofs::get;
using erofs::Inode;
using erofs::Layout;
using erofs::Super;

std::unexpected<Error> corrupt(std::string what) {
  return fail(Code::kCorrupt, "EROFS index: " + std::move(what));
}

/// An inode as it stands there.
struct Raw {
  Node node;
  Layout layout = Layout::kPlain;
  std::uint32_t block = 0;
  std::uint64_t inline_at = 0;  ///< behind inode and attributes
  Xattrs xattrs;
};

class Reader final {
 public:
  Reader(std::string_view image, const TreeLimits& limits) : image_(image), tree_(limits) {}

  Result<ErofsIndex> run() {
    BERTH_TRY(read_super(), "superblock");
    const auto root_nid = get<std::uint16_t>(super_, Super::kRootNid);
    BERTH_ASSIGN(const Raw root, read_inode(root_nid), "root");
    if (root.node.type != NodeType::kDirectory) return corrupt("its root is no folder");
    BERTH_TRY(take_attributes(kRootNode, root), "root");
    known_.emplace(root_nid, kRootNode);
    folders_.push_back({kRootNode, root, 0});
    while (!folders_.empty()) {
      const Folder folder = std::move(folders_.back());
      folders_.pop_back();
      BERTH_TRY(read_folder(folder), "folder");
    }
    return ErofsIndex{std::move(tree_), std::move(archive_blocks_), block_bits_};
  }

 private:
  struct Folder {
    NodeId id = 0;
    Raw raw;
    std::size_t depth = 0;
  };

  Result<> read_super();
  Result<Raw> read_inode(std::uint64_t nid) const;
  Result<> read_xattrs(std::uint64_t at, std::uint16_t count, Raw& out) const;
  Result<> read_type(std::string_view inode, Raw& out) const;
  Result<> place_data(Node& node, std::uint32_t block) const;
  Result<> take_attributes(NodeId id, const Raw& raw);
  Result<std::string> content(const Raw& raw) const;
  Result<> read_folder(const Folder& folder);
  Result<> read_entries(const Folder& folder, std::string_view block);
  Result<> read_entry(const Folder& folder, std::string_view name, std::uint64_t nid);
  Result<std::string_view> range(std::uint64_t at, std::uint64_t size, std::string_view what) const {
    if (at > image_.size() || size > image_.size() - at) return corrupt(std::string(what) + " lies outside");
    return image_.substr(at, size);
  }

  std::string_view image_;
  std::string_view super_;
  LayerTree tree_;
  unsigned block_bits_ = 0;
  std::uint64_t block_ = 0;
  std::uint64_t meta_start_ = 0;
  std::vector<std::uint64_t> archive_blocks_;
  std::vector<std::uint64_t> mapped_;
  std::unordered_map<std::uint64_t, NodeId> known_;
  std::vector<Folder> folders_;
};

Result<> Reader::read_super() {
  BERTH_ASSIGN(super_, range(erofs::kSuperOffset, erofs::kSuperSize, "the superblock"), "read");
  if (get<std::uint32_t>(super_, Super::kMagicAt) != erofs::kMagic) return corrupt("no EROFS");
  block_bits_ = get<std::uint8_t>(super_, Super::kBlockBits);
  if (block_bits_ < erofs::kMinBlockBits || block_bits_ > erofs::kMaxBlockBits) return corrupt("its block size");
  block_ = std::uint64_t{1} << block_bits_;
  if (get<std::uint32_t>(super_, Super::kIncompat) != erofs::kIncompatDeviceTable) {
    return fail(Code::kUnsupported, "EROFS index: features of other writers");
  }
  meta_start_ = get<std::uint32_t>(super_, Super::kMetaBlock) * block_;
  const std::size_t count = get<std::uint16_t>(super_, Super::kExtraDevices);
  if (count > erofs::kMaxDevices) return corrupt("too many devices");
  const std::uint64_t slots = get<std::uint16_t>(super_, Super::kDeviceSlot) * std::uint64_t{erofs::kDeviceSlotSize};
  BERTH_ASSIGN(const std::string_view table, range(slots, count * erofs::kDeviceSlotSize, "the device table"), "read");
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view slot = table.substr(i * erofs::kDeviceSlotSize);
    archive_blocks_.push_back(get<std::uint32_t>(slot, erofs::Device::kBlocks));
    mapped_.push_back(get<std::uint32_t>(slot, erofs::Device::kMappedBlock));
  }
  return {};
}

Result<> Reader::read_type(std::string_view inode, Raw& out) const {
  const auto mode = get<std::uint16_t>(inode, Inode::kMode);
  out.node.mode = mode & 07777;
  const auto code = get<std::uint32_t>(inode, Inode::kBlockOrDevice);
  switch (mode & S_IFMT) {
    case S_IFREG:
      out.node.type = NodeType::kFile;
      return place_data(out.node, code);
    case S_IFDIR:
      out.node.type = NodeType::kDirectory;
      return {};
    case S_IFLNK:
      out.node.type = NodeType::kSymlink;
      return {};
    case S_IFCHR:
      out.node.type = code == 0 ? NodeType::kWhiteout : NodeType::kCharDevice;
      break;
    case S_IFBLK:
      out.node.type = NodeType::kBlockDevice;
      break;
    case S_IFIFO:
      out.node.type = NodeType::kFifo;
      return {};
    default:
      return corrupt("an inode of an unknown type");
  }
  out.node.device_major = erofs::device_major(code);
  out.node.device_minor = erofs::device_minor(code);
  return {};
}

/// In which archive a file's data lie.
Result<> Reader::place_data(Node& node, std::uint32_t block) const {
  if (node.size == 0) return {};
  for (std::size_t i = 0; i < mapped_.size(); ++i) {
    if (block < mapped_[i] || block - mapped_[i] >= archive_blocks_[i]) continue;
    const std::uint64_t first = block - mapped_[i];
    if (node.size > (archive_blocks_[i] - first) * block_) break;
    node.archive = static_cast<std::uint16_t>(i);
    node.data = first * block_;
    return {};
  }
  return corrupt("data outside the archives");
}

Result<Raw> Reader::read_inode(std::uint64_t nid) const {
  if (nid > image_.size() / erofs::kSlotSize) return corrupt("an inode lies outside");
  const std::uint64_t at = meta_start_ + nid * erofs::kSlotSize;
  BERTH_ASSIGN(const std::string_view inode, range(at, erofs::kInodeSize, "an inode"), "read");
  Raw out;
  const auto format = get<std::uint16_t>(inode, Inode::kFormat);
  if (format == erofs::format_of(Layout::kInline)) {
    out.layout = Layout::kInline;
  } else if (format != erofs::format_of(Layout::kPlain)) {
    return fail(Code::kUnsupported, "EROFS index: an inode of another writer");
  }
  out.node.size = get<std::uint64_t>(inode, Inode::kSize);
  out.node.uid = get<std::uint32_t>(inode, Inode::kUid);
  out.node.gid = get<std::uint32_t>(inode, Inode::kGid);
  out.node.mtime_s = get<std::int64_t>(inode, Inode::kTime);
  out.node.mtime_ns = get<std::uint32_t>(inode, Inode::kTimeNs);
  if (out.node.mtime_ns >= 1'000'000'000) return corrupt("a time");
  BERTH_TRY(read_type(inode, out), "read");
  out.block = get<std::uint32_t>(inode, Inode::kBlockOrDevice);
  const auto count = get<std::uint16_t>(inode, Inode::kXattrCount);
  out.inline_at = at + erofs::kInodeSize;
  if (count != 0) {
    BERTH_TRY(read_xattrs(out.inline_at, count, out), "read");
    out.inline_at += erofs::kXattrHeaderSize + (count - 1U) * 4U;
  }
  return out;
}

Result<> Reader::read_xattrs(std::uint64_t at, std::uint16_t count, Raw& out) const {
  BERTH_ASSIGN(std::string_view body, range(at, erofs::kXattrHeaderSize + (count - 1U) * 4U, "attributes"), "read");
  if (get<std::uint8_t>(body, 4) != 0) return fail(Code::kUnsupported, "EROFS index: shared attributes");
  body.remove_prefix(erofs::kXattrHeaderSize);
  while (!body.empty()) {
    const std::size_t name_size = get<std::uint8_t>(body, 0);
    const auto index = get<std::uint8_t>(body, 1);
    const std::size_t value_size = get<std::uint16_t>(body, 2);
    const std::size_t whole = erofs::round_up(erofs::kXattrEntrySize + name_size + value_size, 4);
    if (whole > body.size()) return corrupt("attributes that are cut");
    std::string name;
    for (const erofs::XattrPrefix& prefix : erofs::kXattrPrefixes) {
      if (prefix.index == index) name = prefix.text;
    }
    if (name.empty()) return corrupt("an attribute of an unknown kind");
    name += body.substr(erofs::kXattrEntrySize, name_size);
    const std::string_view value = body.substr(erofs::kXattrEntrySize + name_size, value_size);
    if (name == erofs::kOpaqueXattr) {
      out.node.opaque = true;
    } else {
      out.xattrs.emplace_back(std::move(name), value);
    }
    body.remove_prefix(whole);
  }
  return {};
}

Result<> Reader::take_attributes(NodeId id, const Raw& raw) {
  Node& node = tree_.at(id);
  node.mode = raw.node.mode;
  node.uid = raw.node.uid;
  node.gid = raw.node.gid;
  node.mtime_s = raw.node.mtime_s;
  node.mtime_ns = raw.node.mtime_ns;
  node.opaque = raw.node.opaque;
  node.implied = false;
  return tree_.set_xattrs(id, raw.xattrs);
}

/// A folder's entries or a symlink's target.
Result<std::string> Reader::content(const Raw& raw) const {
  const std::uint64_t size = raw.node.size;
  if (size > image_.size()) return corrupt("data longer than the image");
  const std::uint64_t tail = raw.layout == Layout::kInline ? size % block_ : 0;
  BERTH_ASSIGN(const std::string_view blocks, range(raw.block * block_, size - tail, "data"), "read");
  BERTH_ASSIGN(const std::string_view rest, range(raw.inline_at, tail, "data"), "read");
  return std::string(blocks).append(rest);
}

Result<> Reader::read_folder(const Folder& folder) {
  BERTH_ASSIGN(const std::string bytes, content(folder.raw), "entries");
  for (std::size_t at = 0; at < bytes.size(); at += block_) {
    if (auto done = read_entries(folder, std::string_view(bytes).substr(at, block_)); !done) return done;
  }
  return {};
}

Result<> Reader::read_entries(const Folder& folder, std::string_view block) {
  if (block.size() < erofs::kDirentSize) return corrupt("a folder that is cut");
  const std::size_t first_name = get<std::uint16_t>(block, 8);
  const std::size_t count = first_name / erofs::kDirentSize;
  if (count == 0 || first_name % erofs::kDirentSize != 0 || first_name > block.size())
    return corrupt("a folder's names");
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view head = block.substr(i * erofs::kDirentSize, erofs::kDirentSize);
    const std::size_t begin = get<std::uint16_t>(head, 8);
    std::size_t end = block.size();
    if (i + 1 < count) end = get<std::uint16_t>(block, (i + 1) * erofs::kDirentSize + 8);
    if (begin < first_name || end <= begin || end > block.size()) return corrupt("a folder's names");
    std::string_view name = block.substr(begin, end - begin);
    name = name.substr(0, name.find('\0'));  // the last one is padded
    if (name.empty() || name.find('/') != std::string_view::npos) return corrupt("a name");
    if (name == "." || name == "..") continue;
    if (auto done = read_entry(folder, name, get<std::uint64_t>(head, 0)); !done) return done;
  }
  return {};
}

Result<> Reader::read_entry(const Folder& folder, std::string_view name, std::uint64_t nid) {
  if (tree_.find(folder.id, name)) return corrupt("a name twice in one folder");
  if (const auto known = known_.find(nid); known != known_.end()) {
    if (tree_.at(known->second).type == NodeType::kDirectory) return corrupt("a folder with two names");
    return tree_.link(folder.id, name, known->second);
  }
  if (folder.depth > 512) return fail(Code::kExhausted, "EROFS index: too deep");
  BERTH_ASSIGN(Raw raw, read_inode(nid), "inode");
  NodeId id = 0;
  if (raw.node.type == NodeType::kSymlink) {
    if (raw.node.size == 0 || raw.node.size > 4096) return corrupt("a symlink's target");
    BERTH_ASSIGN(const std::string target, content(raw), "symlink");
    BERTH_ASSIGN(id, tree_.add_symlink(folder.id, name, raw.node, target), "symlink");
  } else {
    if (raw.node.type != NodeType::kFile && raw.node.type != NodeType::kDirectory) raw.node.size = 0;
    BERTH_ASSIGN(id, tree_.add(folder.id, name, raw.node), "entry");
  }
  BERTH_TRY(take_attributes(id, raw), "entry");
  known_.emplace(nid, id);
  if (raw.node.type == NodeType::kDirectory) folders_.push_back({id, std::move(raw), folder.depth + 1});
  return {};
}

}  // namespace

Result<ErofsIndex> read_erofs(std::string_view image, const TreeLimits& limits) {
  return Reader(image, limits).run();
}

}  // namespace berth::image
