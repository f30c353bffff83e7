#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "image/auth.h"
#include "spec/image.h"

namespace berth::image {

/// One image as the CRI shows it.
struct ImageInfo {
  std::string id;                         ///< "sha256:<hex>" of the config blob
  std::vector<std::string> repo_tags;     ///< "docker.io/library/busybox:latest", sorted
  std::vector<std::string> repo_digests;  ///< "docker.io/library/busybox@sha256:...", sorted
  std::uint64_t size_bytes = 0;           ///< on disk: layers, manifest and config
  bool pinned = false;
  spec::ImageConfig config;
};

enum class LayerState { kWaiting, kFetching, kUnpacking, kDone, kPresent };
/// One report about one layer of a running pull.
struct LayerProgress {
  std::string digest;
  LayerState state = LayerState::kWaiting;
  std::uint64_t done_bytes = 0;
  std::uint64_t total_bytes = 0;  ///< compressed size as the manifest says
};

struct PullOptions {
  Auth auth;
  std::stop_token stop;
  /// Called from pull threads, rarely (a few times a second per layer), never two calls at a time.
  std::function<void(const LayerProgress&)> progress;
};

/// What keeps paths good that lead through this process: see image_mounts.h.
using KeptMounts = std::vector<std::shared_ptr<const UniqueFd>>;

/// A container's root filesystem as a mount that the shim makes: type "overlay" (options lowerdir, upperdir, workdir).
struct RootfsMount {
  std::string type;
  std::string source;
  std::vector<std::string> options;
  KeptMounts kept = {};  ///< hold it until the mount is made
};

/// Where the files of an image can be looked at.
struct ImageFolders {
  std::vector<std::string> paths;  ///< lower directories, top first
  KeptMounts kept = {};            ///< hold it while the paths are used
};

/// The ids of the host that stand for 0 and up on the disk, where a container sees its files as its own.
struct RootfsIds {
  std::uint32_t first_uid = 0;
  std::uint32_t uid_count = 0;
  std::uint32_t first_gid = 0;
  std::uint32_t gid_count = 0;
};

struct FsUsage {
  std::int64_t timestamp_ns = 0;
  std::string mountpoint;  ///< the folder whose filesystem holds the store
  std::uint64_t used_bytes = 0;
  std::uint64_t inodes_used = 0;
};

/// How layers are kept. Those that are there already stay as they are.
enum class LayersAs : std::uint8_t {
  kAuto,       ///< as kErofs where the kernel can, else as kDirectory
  kErofs,      ///< the archive and a small EROFS index; Linux 6.12 or later
  kDirectory,  ///< an unpacked tree
};

struct StoreOptions {
  std::string root;                              ///< made if absent (0700)
  std::string platform;                          ///< "os/arch[/variant]"; empty: this machine's
  std::string default_registry = "docker.io";    ///< for names without a registry
  std::vector<std::string> insecure_registries;  ///< host[:port] that may be spoken to over http; loopback always may
  LayersAs layers = LayersAs::kAuto;
  unsigned max_parallel_layers = 3;
  unsigned progress_timeout_s = 60;             ///< a download that moves no byte for so long is given up
  std::uint64_t max_layer_bytes = 64ULL << 30;  ///< of one layer, unpacked
  /// DIR/HOST[:PORT]/ holds hosts.toml (mirrors of that registry), *.crt (more certificate authorities), NAME.cert and
  /// NAME.key (client certificates); read for each pull. Empty: none.
  std::string hosts_dir = "/etc/berth/certs.d";
  std::string auth_file{};  ///< Docker's config.json: logins for pulls that bring none; read when one is wanted
};

/// Something of an image that is not as it was when it was verified.
struct ImageFault {
  std::string object;  ///< a layer's diff id, or the image's id: its merged index
  std::string what;
  bool mended = false;  ///< made again out of what is whole
};
/// What a look at one image found.
struct Verification {
  std::string image_id;
  unsigned verified_layers = 0;
  unsigned unpacked_layers = 0;  ///< kept as directories, of which nothing can be said
  std::vector<ImageFault> faults;
  /// Names under which the image was known and is not any more: pulled again, only its damaged layers are fetched.
  std::vector<std::string> lost_names;
};

/// The image store: pulls, keeps and prepares images. Thread-safe. One process at a time owns a root (flock).
class Store {
 public:
  static Result<std::unique_ptr<Store>> open(StoreOptions options);
  Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  Store(Store&&) = delete;
  Store& operator=(Store&&) = delete;
  virtual ~Store() = default;

  /// Fetches `name` ("busybox", "localhost:5000/a:tag", "a@sha256:...") and makes it runnable. Layers in parallel, each
  /// verified; present ones are not fetched again; a second pull of the same image joins the first. Blocks;
  /// cancellable. Errors: kInvalid name; kNotFound; kDenied; kCorrupt digest or archive; kUnavailable registry;
  /// kTimeout; kExhausted.
  virtual Result<ImageInfo> pull(const std::string& name, PullOptions options) = 0;

  /// From memory, sorted by id. Never blocks on disk.
  [[nodiscard]] virtual std::vector<ImageInfo> list() const = 0;
  /// By id ("sha256:...", or its bare hex, or an unambiguous hex prefix of 8 or more), tag or digest reference.
  [[nodiscard]] virtual std::optional<ImageInfo> find(std::string_view name_or_id) const = 0;
  /// Removes a name (tag or digest reference) and, when none is left, the image; an id removes all its names.
  /// kNotFound when there is no such image (the CRI caller turns this into success); kPrecondition when pinned.
  /// Layers still used by a container stay until that container is gone.
  virtual Result<> remove(std::string_view name_or_id) = 0;

  /// Reads all of an image's archives and indexes and compares them with their digests and with each other. `repair`:
  /// indexes are made again; an image with a damaged archive is taken away (containers that run keep what they have) so
  /// that a pull brings back what is damaged and no more. Takes a second a GB. Cancellable. kNotFound.
  virtual Result<Verification> verify(std::string_view name_or_id, bool repair, std::stop_token stop) = 0;

  /// Makes the writable layer of container `container_id` over image `image_id`. Idempotent. With `ids` the mount has
  /// the options uidmap and gidmap, which map the layers, and the writable layer is owned by the ids of the host.
  virtual Result<RootfsMount> prepare_rootfs(const std::string& container_id, const std::string& image_id,
                                             const std::optional<RootfsIds>& ids) = 0;
  /// Holds image `image_id` for a volume, until remove_rootfs(volume_id): what is to be mounted, read-only, without a
  /// writable layer. Idempotent.
  virtual Result<RootfsMount> prepare_volume(const std::string& volume_id, const std::string& image_id) = 0;
  /// Drops a container's writable layer, or a volume, and its hold on the image's layers. Idempotent; unknown ids are
  /// no error.
  virtual Result<> remove_rootfs(const std::string& container_id) = 0;
  /// Containers that hold a writable layer, and volumes, for recovery.
  [[nodiscard]] virtual std::vector<std::string> rootfs_holders() const = 0;
  /// Bytes and inodes of a container's writable layer. Walks the disk: not for the read path.
  [[nodiscard]] virtual Result<FsUsage> rootfs_usage(const std::string& container_id) const = 0;
  /// The lower directories of an image, top first, for resolving names in /etc/passwd.
  [[nodiscard]] virtual Result<ImageFolders> layer_dirs(const std::string& image_id) const = 0;

  [[nodiscard]] virtual FsUsage usage() const = 0;
};

}  // namespace berth::image
