#pragma once
#include <condition_variable>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/thread_annotations.h"
#include "image/disk.h"
#include "image/endpoint_health.h"
#include "image/image_mounts.h"
#include "image/janitor.h"
#include "image/layer_form.h"
#include "image/platform.h"
#include "image/reference.h"
#include "image/registry.h"
#include "image/store.h"

namespace berth::image {

class PullJob;

/// What a pull has found out about an image before it is put into the store.
struct PulledImage {
  Reference reference;
  std::string target_digest;  ///< what the name points to: the index, or the manifest
  std::string manifest_digest;
  std::string manifest_body;
  std::string config_digest;
  std::string config_body;
  spec::ImageConfig config;
  std::vector<spec::Descriptor> blobs;  ///< one for each diff id
  std::vector<std::string> diff_ids;    ///< base first, as the configuration has them
};

/// The store. Locks, in this order: change_mutex_ (one change of names, images or layers on disk at a time), mutex_
/// (the index in memory; never held over disk or network). Readers take mutex_ alone.
class StoreImpl final : public Store {
 public:
  /// `archives`: new layers are kept as archives with EROFS indexes, else as unpacked trees.
  StoreImpl(StoreOptions options, TargetPlatform platform, Disk disk, bool archives);
  /// Reads the disk into memory and clears what nobody needs.
  Result<> load();

  Result<ImageInfo> pull(const std::string& name, PullOptions options) override;
  [[nodiscard]] std::vector<ImageInfo> list() const override;
  [[nodiscard]] std::optional<ImageInfo> find(std::string_view name_or_id) const override;
  Result<> remove(std::string_view name_or_id) override;
  Result<Verification> verify(std::string_view name_or_id, bool repair, std::stop_token stop) override;
  Result<RootfsMount> prepare_rootfs(const std::string& container_id, const std::string& image_id,
                                     const std::optional<RootfsIds>& ids) override;
  Result<RootfsMount> prepare_volume(const std::string& volume_id, const std::string& image_id) override;
  Result<> remove_rootfs(const std::string& container_id) override;
  [[nodiscard]] std::vector<std::string> rootfs_holders() const override;
  [[nodiscard]] Result<FsUsage> rootfs_usage(const std::string& container_id) const override;
  [[nodiscard]] Result<ImageFolders> layer_dirs(const std::string& image_id) const override;
  [[nodiscard]] FsUsage usage() const override;

  // For pull jobs.
  [[nodiscard]] const StoreOptions& options() const { return options_; }
  [[nodiscard]] const TargetPlatform& platform() const { return platform_; }
  [[nodiscard]] const Disk& disk() const { return disk_; }
  [[nodiscard]] EndpointHealth& health() { return health_; }

  /// The form in which new layers are kept, in the empty folder `dir`.
  [[nodiscard]] Result<std::unique_ptr<LayerForm>> start_layer(const std::string& dir) const;

  enum class Claim : std::uint8_t { kPresent, kFetch };
  /// Takes a hold on layer `diff_id` until release_layers(). kPresent: it is there. kFetch: the caller fetches it and
  /// calls settle_layer(). Waits while another pull fetches it.
  Result<Claim> claim_layer(const std::string& diff_id, std::stop_token stop);
  /// Ends a kFetch claim; `record` when the layer was published.
  void settle_layer(const std::string& diff_id, const LayerRecord* record);
  /// Ends holds; layers that nothing uses go, unless `keep_for_retry` (then later).
  void release_layers(const std::vector<std::string>& diff_ids, bool keep_for_retry);

  /// The image as it is when `manifest_digest` was pulled before and is complete: names it and gives it back.
  std::optional<Result<ImageInfo>> reuse_image(const Reference& reference, const std::string& target_digest,
                                               const std::string& manifest_digest);
  /// Puts a pulled image, whose layers the caller holds, into the store.
  /// `fresh`: the layers that this pull fetched, so that nobody else uses them yet.
  Result<ImageInfo> commit(const PulledImage& pulled, const std::vector<std::string>& fresh);

 private:
  struct Layer {
    LayerRecord record;
    unsigned users = 0;  ///< images
    unsigned pins = 0;   ///< pulls under way
    SteadyTime idle_since{};
  };
  struct Image {
    ImageRecord record;
    std::shared_ptr<const spec::ImageConfig> config;
    std::set<std::string> names;
    std::set<std::string> holders;  ///< containers
  };
  using Images = std::map<std::string, Image, std::less<>>;

  Result<> load_image(ImageRecord record) BERTH_REQUIRES(mutex_);
  Result<> drop_unused_files() BERTH_REQUIRES(mutex_);
  [[nodiscard]] ImageInfo info_of(const Image& image) const BERTH_REQUIRES(mutex_);
  [[nodiscard]] const Image* find_image(std::string_view name_or_id, std::string* name) const BERTH_REQUIRES(mutex_);
  [[nodiscard]] Result<ImageFolders> lower_dirs(const ImageRecord& record) const;
  /// Adds the place where one layer by itself can be looked into.
  Result<> add_lower_dir(const LayerRecord& layer, ImageFolders& out) const;
  /// kNotFound: one of them was found damaged and taken away.
  [[nodiscard]] Result<std::vector<LayerRecord>> layers_of(const ImageRecord& record) const;
  /// Merges the indexes of its layers, all of them archives.
  Result<> index_image(ImageRecord& record, const std::vector<LayerRecord>& layers) const;
  [[nodiscard]] Result<ImageRecord> hold_image(const std::string& container_id, const std::string& image_id);
  Result<> add_names(const Reference& reference, const std::string& target_digest, const std::string& image_id)
      BERTH_REQUIRES(change_mutex_);
  Result<ImageRecord> record_for(const PulledImage& pulled);
  Result<> write_documents(const PulledImage& pulled, const ImageRecord& record) BERTH_REQUIRES(change_mutex_);
  /// Completes what layers leave unsaid about directories, "/" among them.
  Result<> settle_directories(ImageRecord& record) BERTH_REQUIRES(change_mutex_);
  /// One layer against its digest and its index. `lost`: its archive is not what it was.
  Result<> verify_layer(const LayerRecord& layer, bool repair, const std::stop_token& stop, Verification& out,
                        bool& lost);
  Result<> verify_index(const ImageRecord& record, bool repair, Verification& out);
  Result<Verification> verify_pinned(const ImageRecord& record, bool repair, const std::stop_token& stop);
  /// Takes damaged layers away, and the images that stand on them. Layers that are whole wait for the next pull.
  Result<> lose_layers(const std::vector<std::string>& diff_ids, Verification& out);
  void use_layers(const ImageRecord& record) BERTH_REQUIRES(mutex_);
  /// Forgets image `id` in memory and on disk. Gives back what is to be deleted outside the locks.
  Result<std::vector<std::string>> erase_image(const std::string& id) BERTH_REQUIRES(change_mutex_);
  /// Takes unused layers out of the index and sets their folders aside.
  std::vector<std::string> sweep_layers(bool all) BERTH_REQUIRES(change_mutex_);
  void delete_later(std::vector<std::string> paths);
  void delete_now(const std::vector<std::string>& paths);

  const StoreOptions options_;
  const TargetPlatform platform_;
  Disk disk_;
  const bool archives_;
  const bool overlay_index_off_;
  mutable ImageMounts mounts_;
  EndpointHealth health_;
  Mutex change_mutex_;
  mutable Mutex mutex_;
  std::map<std::string, Layer> layers_ BERTH_GUARDED_BY(mutex_);
  Images images_ BERTH_GUARDED_BY(mutex_);
  std::map<std::string, std::string, std::less<>> names_ BERTH_GUARDED_BY(mutex_);       ///< name -> image id
  std::map<std::string, std::string, std::less<>> containers_ BERTH_GUARDED_BY(mutex_);  ///< container -> image id
  std::set<std::string> fetching_ BERTH_GUARDED_BY(mutex_);                              ///< diff ids
  std::condition_variable_any fetched_;
  std::map<std::string, std::shared_ptr<PullJob>> pulls_ BERTH_GUARDED_BY(mutex_);
  Janitor janitor_;  // last: its tasks use the members above
};

}  // namespace berth::image
