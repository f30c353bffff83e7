#include "image/layer_writer.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"
#include "image/layer_names.h"
#include "image/printable.h"
#include "os/file.h"

namespace berth::image {
namespace {

constexpr std::uint64_t kFsBlock = 4096;

std::unexpected<Error> corrupt(std::string what) {
  return fail(Code::kCorrupt, std::move(what));
}

timespec access_omit() {
  return {.tv_sec = 0, .tv_nsec = UTIME_OMIT};
}

}  // namespace

Result<std::uint32_t> current_umask() {
  BERTH_ASSIGN(const std::string status, os::read_file("/proc/thread-self/status", 65536), "read the umask");
  const std::size_t at = status.find("\nUmask:");
  if (at == std::string::npos) return fail(Code::kUnsupported, "the kernel does not show the umask");
  const std::size_t end = status.find('\n', at + 1);
  const auto value = parse_number<std::uint32_t>(trim(std::string_view(status).substr(at + 7, end - at - 7)), 8);
  if (!value) return fail(Code::kUnsupported, "the kernel shows an unreadable umask");
  return *value;
}

LayerWriter::LayerWriter(UniqueFd root, std::uint32_t umask, std::uint64_t max_bytes)
    : root_(std::move(root)), umask_(umask), max_bytes_(max_bytes), dirs_(root_.get()) {}

LayerWriter::Attributes LayerWriter::attributes_of(const TarEntry& entry) {
  Attributes out{entry.mode, entry.uid, entry.gid, entry.mtime_s, entry.mtime_ns, {}};
  for (const auto& [name, value] : entry.xattrs) {
    if (keep_xattr(name)) {
      out.xattrs.emplace_back(name, value);
    } else {
      ++stats_.dropped_xattrs;
    }
  }
  return out;
}

Result<LayerWriter::Place> LayerWriter::place(std::string_view path) {
  BERTH_ASSIGN(const std::string clean, clean_layer_path(path), "path");
  Place out;
  const std::size_t slash = clean.rfind('/');
  if (slash != std::string::npos) out.parent_path = clean.substr(0, slash);
  out.leaf = slash == std::string::npos ? clean : clean.substr(slash + 1);
  auto parent = dirs_.open(out.parent_path);
  if (!parent && (parent.error().code() == Code::kNotFound || parent.error().code() == Code::kCorrupt)) {
    BERTH_TRY(make_parents(out.parent_path), "parent directory");
    parent = dirs_.open(out.parent_path);
  }
  if (!parent) {
    if (parent.error().code() == Code::kNotFound) return corrupt("a link on its path leads nowhere");
    return fail(std::move(parent).error().in("parent directory"));
  }
  out.parent = *parent;
  // What is remembered of a directory goes by where it is: the link may be replaced.
  BERTH_ASSIGN(out.parent_path, dirs_.real_path(out.parent_path), "parent directory");
  return out;
}

Result<> LayerWriter::make_parents(const std::string& path) {
  for (std::size_t end = path.find('/');; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (const auto there = dirs_.open(part); !there) {
      if (auto made = make_parent(part, there.error()); !made) return made;
    }
    if (end == std::string::npos) return {};
  }
}

/// One folder that is not there, `why` says in what way.
Result<> LayerWriter::make_parent(const std::string& path, const Error& why) {
  if (why.code() != Code::kNotFound && why.code() != Code::kCorrupt) return fail(why);
  const std::size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? std::string() : path.substr(0, slash);
  const auto above = dirs_.open(parent);
  if (!above) return fail(above.error());
  const std::string leaf = slash == std::string::npos ? path : path.substr(slash + 1);
  BERTH_ASSIGN(const std::string real_parent, dirs_.real_path(parent), "parent directory");
  bool opaque = false;
  if (why.code() == Code::kCorrupt) {  // no folder; a whiteout makes room for one that hides what it hid
    struct stat st{};
    const bool hides = ::fstatat(*above, leaf.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) &&
                       st.st_rdev == makedev(0, 0);
    if (!hides) return fail(why);
    if (::unlinkat(*above, leaf.c_str(), 0) != 0) return fail_errno(errno, "replace a whiteout");
    opaque = true;
  }
  if (::mkdirat(*above, leaf.c_str(), 0755) != 0) {
    if (errno == EEXIST) return corrupt("a link on its path leads nowhere");
    return fail_errno(errno, "mkdir");
  }
  ++stats_.inodes;
  stats_.bytes += kFsBlock;
  implied_.emplace(real_parent.empty() ? leaf : real_parent + "/" + leaf, implied_now_);
  if (!opaque) return {};
  BERTH_ASSIGN(const UniqueFd made, os::open_at(*above, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), "mark opaque");
  if (::fsetxattr(made.get(), "trusted.overlay.opaque", "y", 1, 0) != 0) return fail_errno(errno, "mark opaque");
  return {};
}

Result<> LayerWriter::entry(const TarEntry& entry) {
  if (entry.size > max_bytes_) return too_large(entry, max_bytes_);
  implied_now_.mtime_s = entry.mtime_s;
  implied_now_.mtime_ns = entry.mtime_ns;
  BERTH_ASSIGN(const Place where, place(entry.path), "unpack");
  if (where.leaf.empty()) {  // "./": the root itself
    if (entry.type != TarType::kDirectory) return corrupt("the root of the layer is no directory");
    directories_[""] = attributes_of(entry);
    stats_.has_root_entry = true;
    return {};
  }
  if (where.leaf.starts_with(kWhiteoutPrefix)) return whiteout(where);
  return create(where, entry);
}

Result<> LayerWriter::whiteout(const Place& place) {
  if (place.leaf == kOpaqueName) {
    if (place.parent_path.empty()) {  // overlayfs does not look at the mark of a root
      stats_.root_opaque = true;
    } else if (::fsetxattr(place.parent, "trusted.overlay.opaque", "y", 1, 0) != 0) {
      return fail_errno(errno, "mark opaque");
    }
    return {};
  }
  if (place.leaf.starts_with(kAufsPrefix)) return {};  // AUFS' own bookkeeping: image-spec says to ignore it
  const std::string hidden = place.leaf.substr(kWhiteoutPrefix.size());
  if (hidden.empty() || hidden == "." || hidden == "..") return corrupt("a whiteout of \"" + hidden + "\"");
  if (::mknodat(place.parent, hidden.c_str(), S_IFCHR, makedev(0, 0)) == 0) {
    ++stats_.inodes;
    return {};
  }
  if (errno != EEXIST) return fail_errno(errno, "make whiteout");
  // The layer has the name too. A whiteout hides lower layers only, which a file does anyway and a directory when
  // opaque.
  const int fd = ::openat(place.parent, hidden.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return {};
  const UniqueFd dir(fd);
  if (::fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) != 0) return fail_errno(errno, "mark opaque");
  return {};
}

Result<> LayerWriter::create(const Place& place, const TarEntry& entry) {
  switch (entry.type) {
    case TarType::kFile:
      return create_file(place, entry);
    case TarType::kDirectory:
      return create_directory(place, entry);
    case TarType::kHardLink:
      return create_hard_link(place, entry);
    case TarType::kSymlink:
      return create_symlink(place, entry);
    case TarType::kCharDevice:
    case TarType::kBlockDevice:
    case TarType::kFifo:
      return create_node(place, entry);
  }
  return corrupt("unknown entry type");
}

Result<bool> LayerWriter::clear(const Place& place) {
  struct stat st{};
  if (::fstatat(place.parent, place.leaf.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return false;
    return fail_errno(errno, "stat what is there already");
  }
  const bool was_whiteout = S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0);
  if (S_ISDIR(st.st_mode)) {
    // /proc/self/fd reaches the very directory that is open; remove_tree follows no link below it.
    const std::string path = "/proc/self/fd/" + std::to_string(place.parent) + "/" + place.leaf;
    BERTH_TRY(os::remove_tree(path), "replace a directory");
    forget_below(place);
  } else if (::unlinkat(place.parent, place.leaf.c_str(), 0) != 0) {
    return fail_errno(errno, "replace a file");
  }
  return was_whiteout;
}

/// The directory at `place` goes away: neither descriptors nor postponed attributes of it or below may stay.
void LayerWriter::forget_below(const Place& place) {
  const std::string path = place.path();
  dirs_.forget(path);
  const std::string below = path + "/";
  directories_.erase(path);
  implied_.erase(path);
  const auto erase = [&below](auto& map) {
    auto it = map.lower_bound(below);
    while (it != map.end() && it->first.starts_with(below)) it = map.erase(it);
  };
  erase(directories_);
  erase(implied_);
}

Result<> LayerWriter::create_file(const Place& place, const TarEntry& entry) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  // Setuid bits last: changing the owner would take them off again.
  const mode_t mode = entry.mode & 0777;
  int fd = ::openat(place.parent, place.leaf.c_str(), kFlags, mode);
  if (fd < 0 && errno == EEXIST) {
    BERTH_TRY(clear(place), "create file");
    auto again = dirs_.open(place.parent_path);
    if (!again) return fail(std::move(again).error());
    fd = ::openat(*again, place.leaf.c_str(), kFlags, mode);
  }
  if (fd < 0) return fail_errno(errno, "create file");
  file_.reset(fd);
  file_attributes_ = attributes_of(entry);
  ++stats_.inodes;
  stats_.bytes += (entry.size + kFsBlock - 1) / kFsBlock * kFsBlock;
  return {};
}

Result<> LayerWriter::data(Bytes bytes) {
  if (!file_) return {};  // a whiteout that carries data
  return os::write_all(file_.get(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

Result<> LayerWriter::end_entry() {
  if (!file_) return {};
  const UniqueFd file = std::move(file_);
  const Attributes attributes = std::move(*file_attributes_);
  file_attributes_.reset();
  struct stat st{};
  // A setgid parent gives its group away; otherwise a new file is root's already.
  bool chown = attributes.uid != 0 || attributes.gid != 0;
  if (!chown) {
    if (::fstat(file.get(), &st) != 0) return fail_errno(errno, "stat");
    chown = st.st_uid != 0 || st.st_gid != 0;
  }
  if (chown && ::fchown(file.get(), attributes.uid, attributes.gid) != 0) return fail_errno(errno, "set owner");
  if ((attributes.mode & (07000 | umask_)) != 0 && ::fchmod(file.get(), attributes.mode) != 0) {
    return fail_errno(errno, "set mode");
  }
  BERTH_TRY(set_xattrs(file.get(), attributes), "set attributes");
  const timespec times[2] = {access_omit(), {attributes.mtime_s, static_cast<long>(attributes.mtime_ns)}};
  if (::futimens(file.get(), times) != 0) return fail_errno(errno, "set time");
  return {};
}

Result<> LayerWriter::set_xattrs(int fd, const Attributes& attributes) {
  for (const auto& [name, value] : attributes.xattrs) {
    if (::fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) == 0) continue;
    // A file system may lack ACLs or user attributes; capabilities decide what a program may do, so they must not be
    // lost.
    if (errno == EOPNOTSUPP && (name.starts_with("user.") || name.starts_with("system."))) {
      ++stats_.dropped_xattrs;
      continue;
    }
    return fail_errno(errno, "set attribute " + printable(name, 80));
  }
  return {};
}

Result<> LayerWriter::create_directory(const Place& place, const TarEntry& entry) {
  bool hides_lower = false;
  if (::mkdirat(place.parent, place.leaf.c_str(), 0755) == 0) {
    ++stats_.inodes;
    stats_.bytes += kFsBlock;
  } else {
    if (errno != EEXIST) return fail_errno(errno, "mkdir");
    struct stat st{};
    if (::fstatat(place.parent, place.leaf.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno(errno, "stat");
    if (!S_ISDIR(st.st_mode)) {
      BERTH_ASSIGN(hides_lower, clear(place), "replace a file by a directory");
      dirs_.forget(place.path());
      auto parent = dirs_.open(place.parent_path);
      if (!parent) return fail(std::move(parent).error());
      if (::mkdirat(*parent, place.leaf.c_str(), 0755) != 0) return fail_errno(errno, "mkdir");
    }
  }
  implied_.erase(place.path());
  Attributes attributes = attributes_of(entry);
  if (hides_lower) attributes.xattrs.emplace_back("trusted.overlay.opaque", "y");
  directories_[place.path()] = std::move(attributes);
  return {};
}

Result<> LayerWriter::create_hard_link(const Place& place, const TarEntry& entry) {
  BERTH_ASSIGN(const std::string target, clean_layer_path(entry.link), "hard link target");
  if (target.empty()) return corrupt("a hard link to nothing");
  const std::size_t slash = target.rfind('/');
  const std::string leaf = slash == std::string::npos ? target : target.substr(slash + 1);
  const std::string what = "hard link target \"" + printable(entry.link) + "\"";
  auto from = os::open_in(root_.get(), slash == std::string::npos ? "." : target.substr(0, slash), O_PATH | O_DIRECTORY,
                          RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
  if (!from) return corrupt(what + " is not in this layer");
  for (int attempt = 0;; ++attempt) {
    auto parent = dirs_.open(place.parent_path);
    if (!parent) return fail(std::move(parent).error());
    if (::linkat(from->get(), leaf.c_str(), *parent, place.leaf.c_str(), 0) == 0) return {};
    const int why = errno;
    if (why == ENOENT) return corrupt(what + " is not in this layer");
    if (why == EPERM) return corrupt(what + " is a directory");
    if (why != EEXIST || attempt != 0) return fail_errno(why, what);
    struct stat a{}, b{};
    if (::fstatat(from->get(), leaf.c_str(), &a, AT_SYMLINK_NOFOLLOW) != 0)
      return corrupt(what + " is not in this layer");
    if (S_ISDIR(a.st_mode)) return corrupt(what + " is a directory");
    if (::fstatat(*parent, place.leaf.c_str(), &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_ino == b.st_ino &&
        a.st_dev == b.st_dev) {
      return {};  // the same file already
    }
    Place again = place;
    again.parent = *parent;
    BERTH_TRY(clear(again), "replace by a hard link");
  }
}

Result<> LayerWriter::create_symlink(const Place& place, const TarEntry& entry) {
  if (entry.link.empty()) return corrupt("a symlink to nothing");
  int made = ::symlinkat(entry.link.c_str(), place.parent, place.leaf.c_str());
  int parent = place.parent;
  if (made != 0 && errno == EEXIST) {
    BERTH_TRY(clear(place), "replace by a symlink");
    dirs_.forget(place.path());
    BERTH_ASSIGN(parent, dirs_.open(place.parent_path), "parent directory");
    made = ::symlinkat(entry.link.c_str(), parent, place.leaf.c_str());
  }
  if (made != 0) return fail_errno(errno, "make symlink");
  ++stats_.inodes;
  if (::fchownat(parent, place.leaf.c_str(), entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return fail_errno(errno, "set owner");
  }
  const timespec times[2] = {access_omit(), {entry.mtime_s, static_cast<long>(entry.mtime_ns)}};
  if (::utimensat(parent, place.leaf.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno(errno, "set time");
  return {};
}

Result<> LayerWriter::create_node(const Place& place, const TarEntry& entry) {
  const mode_t kind = entry.type == TarType::kFifo ? S_IFIFO : entry.type == TarType::kCharDevice ? S_IFCHR : S_IFBLK;
  const dev_t device = entry.type == TarType::kFifo ? 0 : makedev(entry.device_major, entry.device_minor);
  int parent = place.parent;
  int made = ::mknodat(parent, place.leaf.c_str(), kind | (entry.mode & 0777), device);
  if (made != 0 && errno == EEXIST) {
    BERTH_TRY(clear(place), "replace by a device");
    BERTH_ASSIGN(parent, dirs_.open(place.parent_path), "parent directory");
    made = ::mknodat(parent, place.leaf.c_str(), kind | (entry.mode & 0777), device);
  }
  if (made != 0) return fail_errno(errno, "make device");
  ++stats_.inodes;
  if (::fchownat(parent, place.leaf.c_str(), entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return fail_errno(errno, "set owner");
  }
  // Just made by us and nobody else writes here, so the name is no link.
  if ((entry.mode & (07000 | umask_)) != 0 && ::fchmodat(parent, place.leaf.c_str(), entry.mode, 0) != 0) {
    return fail_errno(errno, "set mode");
  }
  const timespec times[2] = {access_omit(), {entry.mtime_s, static_cast<long>(entry.mtime_ns)}};
  if (::utimensat(parent, place.leaf.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno(errno, "set time");
  return {};
}

Result<> LayerWriter::finish_directory(const std::string& path, const Attributes& attributes) {
  BERTH_ASSIGN(const int fd, dirs_.open(path), "directory");
  if (::fchown(fd, attributes.uid, attributes.gid) != 0) return fail_errno(errno, "set owner");
  if (::fchmod(fd, attributes.mode) != 0) return fail_errno(errno, "set mode");
  BERTH_TRY(set_xattrs(fd, attributes), "set attributes");
  const timespec times[2] = {access_omit(), {attributes.mtime_s, static_cast<long>(attributes.mtime_ns)}};
  if (::futimens(fd, times) != 0) return fail_errno(errno, "set time");
  return {};
}

Result<> LayerWriter::finish() {
  for (const auto& [path, attributes] : directories_) {
    BERTH_TRY(finish_directory(path, attributes), "directory \"" + printable(path) + "\"");
  }
  for (const auto& [path, attributes] : implied_) {
    BERTH_TRY(finish_directory(path, attributes), "directory \"" + printable(path) + "\"");
    stats_.implied_dirs.push_back(path);
  }
  return {};
}

}  // namespace berth::image
