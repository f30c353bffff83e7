#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "image/dir_cache.h"
#include "image/tar_entry.h"

namespace berth::image {

/// What a written layer amounts to.
struct LayerStats {
  std::uint64_t bytes = 0;   ///< allocated by files: data rounded up to 4 KiB, and 4 KiB a directory
  std::uint64_t inodes = 0;  ///< created; later replacements are not taken off
  std::uint64_t dropped_xattrs = 0;
  /// Directories that the archive names nothing about, made 0755 because something lies below them ("usr/lib"), with
  /// the time of the first such thing. Sorted.
  std::vector<std::string> implied_dirs = {};
  bool has_root_entry = false;      ///< the archive says what the root directory itself is like
  bool root_opaque = false;         ///< the root hides every layer below
  std::uint64_t archive_bytes = 0;  ///< of a layer that is kept as its archive; 0: it is a directory
  bool durable = false;             ///< no power cut takes it away
};

/// Writes one layer's entries below a directory as an overlayfs lower directory: whiteouts become character devices
/// 0:0, opaque markers the attribute trusted.overlay.opaque. Nothing is reached outside the root, whatever names and
/// links the archive holds: ".." is refused, parents are opened inside the root (openat2 RESOLVE_IN_ROOT when a link
/// lies on the way), last components are never followed. Kept: owner, mode with setuid bits, times, xattrs user.*,
/// security.capability and POSIX ACLs. Dropped: every other attribute, above all trusted.overlay.*. Directories get
/// owner, mode and time at the end. Does not sync. Needs root. Blocks on disk. Not thread-safe. Errors: kCorrupt an
/// archive that cannot be unpacked safely; kExhausted disk full or a limit; else by errno. Source: image-spec layer.md;
/// kernel Documentation/filesystems/overlayfs.rst.
class LayerWriter final : public TarSink {
 public:
  /// `root` : the open, empty directory to fill. `umask` of the calling thread (see current_umask()).
  /// An entry that says it is larger than `max_bytes` is refused before anything of it is written.
  LayerWriter(UniqueFd root, std::uint32_t umask, std::uint64_t max_bytes = UINT64_MAX);

  Result<> entry(const TarEntry& entry) override;
  Result<> data(Bytes bytes) override;
  Result<> end_entry() override;
  /// Gives the directories their owner, mode, attributes and time. Call once, after the archive's end.
  Result<> finish();
  [[nodiscard]] const LayerStats& stats() const { return stats_; }

 private:
  /// Owner, mode, times and attributes as an entry gives them.
  struct Attributes {
    std::uint32_t mode = 0, uid = 0, gid = 0;
    std::int64_t mtime_s = 0;
    std::uint32_t mtime_ns = 0;
    std::vector<std::pair<std::string, std::string>> xattrs;
  };
  /// Where an entry goes.
  struct Place {
    int parent = -1;
    std::string parent_path;
    std::string leaf;
    [[nodiscard]] std::string path() const { return parent_path.empty() ? leaf : parent_path + "/" + leaf; }
  };

  Result<Place> place(std::string_view path);
  Result<> make_parents(const std::string& path);
  Result<> make_parent(const std::string& path, const Error& why);
  Result<> whiteout(const Place& place);
  Result<> create(const Place& place, const TarEntry& entry);
  Result<> create_file(const Place& place, const TarEntry& entry);
  Result<> create_directory(const Place& place, const TarEntry& entry);
  Result<> create_hard_link(const Place& place, const TarEntry& entry);
  Result<> create_symlink(const Place& place, const TarEntry& entry);
  Result<> create_node(const Place& place, const TarEntry& entry);
  /// Takes away what an earlier entry left there. `was_whiteout`: it hid the lower layers' entry of that name.
  Result<bool> clear(const Place& place);
  void forget_below(const Place& place);
  Result<> set_xattrs(int fd, const Attributes& attributes);
  Result<> finish_directory(const std::string& path, const Attributes& attributes);
  Attributes attributes_of(const TarEntry& entry);

  UniqueFd root_;
  std::uint32_t umask_;
  std::uint64_t max_bytes_;
  DirCache dirs_;
  UniqueFd file_;
  std::optional<Attributes> file_attributes_;
  std::map<std::string, Attributes> directories_;  ///< explicit ones, to be finished; "" is the root
  std::map<std::string, Attributes> implied_;
  Attributes implied_now_{0755, 0, 0, 0, 0, {}};  ///< for what the current entry implies: its time
  LayerStats stats_;
};

/// The calling thread's umask, read without changing it.
[[nodiscard]] Result<std::uint32_t> current_umask();

}  // namespace berth::image
