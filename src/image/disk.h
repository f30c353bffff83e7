#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "image/store.h"

namespace berth::image {

/// One layer, as layers/<hex>/info.json has it.
struct LayerRecord {
  std::string diff_id;
  std::uint64_t bytes = 0;
  std::uint64_t inodes = 0;
  std::uint64_t archive_bytes = 0;             ///< of a layer kept as its archive with an index; 0: an unpacked tree
  bool root_opaque = false;                    ///< hides every layer below
  bool has_root_entry = false;                 ///< its root directory's owner and mode are the image's
  bool durable = false;                        ///< it was flushed before it got its name
  std::vector<std::string> implied_dirs = {};  ///< see LayerStats
  std::string boot_id = {};                    ///< the kernel's life in which it was written

  [[nodiscard]] bool archive() const { return archive_bytes != 0; }
};

/// One image, as images/<hex>.json has it. Its configuration is the meta blob `id`.
struct ImageRecord {
  std::string id;                   ///< digest of the configuration
  std::string manifest;             ///< digest of the platform's manifest
  std::vector<std::string> layers;  ///< diff ids, base first, none twice, without those that an opaque root hides
  std::uint64_t meta_bytes = 0;     ///< manifest and configuration
  std::int64_t pulled_ns = 0;       ///< wall time
  bool index = false;               ///< its layers are archives, images/<hex>.erofs merges them
  bool removed = false;             ///< no longer an image for users; kept while containers use its layers
  std::uint32_t root_mode = 0755;   ///< of the root directory
  std::uint32_t root_uid = 0;
  std::uint32_t root_gid = 0;
};

/// A name of an image, as refs/<sha256 of name> has it.
struct RefRecord {
  std::string name;   ///< "docker.io/library/busybox:latest" or "...@sha256:..."
  std::string image;  ///< image id
};

struct ContainerRecord {
  std::string id;
  std::string image;
};

/// The folder of a store: what is where, and that each thing appears whole or not at all. No locks of its own: the
/// store serialises changes. Blocks on disk. README.md shows the layout.
class Disk final {
 public:
  /// Makes what is missing, takes the lock (kPrecondition: another process has it). `root`: absolute, without ',' ':'
  /// '\'.
  static Result<Disk> open(const std::string& root);

  struct Loaded {
    std::vector<LayerRecord> layers;
    std::vector<ImageRecord> images;
    std::vector<RefRecord> refs;
    std::vector<ContainerRecord> containers;
  };
  /// Reads everything. Unreadable records are dropped with a warning: they are what a power cut left. Layers of an
  /// earlier boot that were never flushed are dropped too.
  Result<Loaded> load();

  [[nodiscard]] const std::string& root() const { return root_; }
  [[nodiscard]] std::string tmp_dir() const { return root_ + "/tmp"; }
  [[nodiscard]] std::string layer_dir(const std::string& diff_id) const;
  /// The layer's tree: what overlayfs gets.
  [[nodiscard]] std::string layer_tree(const std::string& diff_id) const { return layer_dir(diff_id) + "/fs"; }
  /// Of a layer that is kept as its archive.
  [[nodiscard]] std::string archive_path(const std::string& diff_id) const;
  [[nodiscard]] std::string layer_index(const std::string& diff_id) const;
  /// Of an image whose record says `index`.
  [[nodiscard]] std::string image_index(const std::string& id) const;
  [[nodiscard]] std::string container_dir(const std::string& id) const { return root_ + "/containers/" + id; }
  [[nodiscard]] std::string empty_dir() const { return root_ + "/empty"; }

  /// A new folder in tmp/.
  Result<std::string> make_temporary() const;
  /// Moves `path` (inside the store) into tmp/ under a new name, which is returned for removal; absent: empty string.
  Result<std::string> set_aside(const std::string& path) const;
  /// Writes info.json into the temporary folder `dir`, which holds "fs", and gives it its final name.
  Result<> publish_layer(const std::string& dir, LayerRecord record) const;
  /// Flushes the file system, then marks the layers as durable.
  Result<> sync_layers(const std::vector<std::string>& diff_ids) const;

  Result<> write_meta(const std::string& digest, std::string_view body) const;
  Result<std::string> read_meta(const std::string& digest) const;
  Result<> remove_meta(const std::string& digest) const;
  [[nodiscard]] Result<std::vector<std::string>> list_meta() const;
  /// Removes what no image owns below images/.
  Result<> drop_indexes(const std::vector<std::string>& owned_ids) const;
  Result<> write_image(const ImageRecord& record) const;
  Result<> remove_image(const std::string& id) const;
  Result<> write_ref(const RefRecord& record) const;
  Result<> remove_ref(const std::string& name) const;

  /// containers/<id>/{upper,work,image}; present ones are kept. `ids`: kInvalid when the image's root is nobody's
  /// there.
  Result<> make_container(const std::string& id, const ImageRecord& image, const std::optional<RootfsIds>& ids) const;
  /// Its first part: the folder and the note of the image that it holds.
  Result<> own_image(const std::string& id, const ImageRecord& image) const;

 private:
  Disk(std::string root, UniqueFd lock, std::string boot_id, std::uint32_t umask);
  Result<> load_layers(Loaded& out);
  Result<> load_images(Loaded& out);
  Result<> load_refs(Loaded& out);
  Result<> load_containers(Loaded& out);
  [[nodiscard]] std::string image_path(const std::string& id) const;
  [[nodiscard]] std::string meta_path(const std::string& digest) const;
  Result<std::string> ref_path(const std::string& name) const;

  std::string root_;
  UniqueFd lock_;
  std::string boot_id_;
  std::uint32_t umask_;  ///< of this process
};

}  // namespace berth::image
