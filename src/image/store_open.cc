#include <algorithm>

#include "base/log.h"
#include "base/strings.h"
#include "image/digest.h"
#include "image/erofs_mount.h"
#include "image/image_index.h"
#include "image/printable.h"
#include "image/store_impl.h"
#include "image/tree.h"
#include "os/file.h"

namespace berth::image {
namespace {

/// With this module default an upper directory cannot be put over another lower one, which a moved store would be.
bool overlay_index_is_on() {
  const auto text = os::read_file("/sys/module/overlay/parameters/index", 16);
  return text && text->starts_with('Y');
}

Result<bool> keeps_archives(LayersAs wanted, const std::string& folder) {
  if (wanted == LayersAs::kDirectory) return false;
  auto works = probe_erofs(folder);
  if (works) return true;
  if (wanted == LayersAs::kErofs) return fail(std::move(works).error().as(Code::kUnsupported).in("layers = \"erofs\""));
  log_info("image store: layers are unpacked, since EROFS does not work here", {{"error", works.error().text()}});
  return false;
}

}  // namespace

Result<std::unique_ptr<Store>> Store::open(StoreOptions options) {
  BERTH_ASSIGN(TargetPlatform platform, target_platform(options.platform), "image store");
  if (!valid_registry(options.default_registry)) {
    return fail(Code::kInvalid,
                "image store: default registry \"" + printable(options.default_registry) + "\" is no host name");
  }
  for (const std::string& entry : options.insecure_registries) {
    if (!valid_registry_pattern(entry)) {
      return fail(Code::kInvalid,
                  "image store: insecure registry \"" + printable(entry) + "\" is not host, host:port or *.domain");
    }
  }
  BERTH_ASSIGN(Disk disk, Disk::open(options.root), "open");
  BERTH_ASSIGN(const bool archives, keeps_archives(options.layers, disk.tmp_dir()), "open");
  auto store = std::make_unique<StoreImpl>(std::move(options), std::move(platform), std::move(disk), archives);
  BERTH_TRY(store->load(), "open");
  return std::unique_ptr<Store>(std::move(store));
}

StoreImpl::StoreImpl(StoreOptions options, TargetPlatform platform, Disk disk, bool archives)
    : options_(std::move(options)),
      platform_(std::move(platform)),
      disk_(std::move(disk)),
      archives_(archives),
      overlay_index_off_(overlay_index_is_on()) {}

Result<> StoreImpl::load() {
  BERTH_ASSIGN(Disk::Loaded loaded, disk_.load(), "load");
  std::vector<std::string> unused;
  {
    const MutexLock change(change_mutex_);
    {
      const MutexLock lock(mutex_);
      for (LayerRecord& record : loaded.layers) {
        std::string id = record.diff_id;
        layers_.emplace(std::move(id), Layer{.record = std::move(record)});
      }
      for (ImageRecord& record : loaded.images) {
        const std::string id = record.id;
        if (auto done = load_image(std::move(record)); !done) {
          log_warn("image store: dropped an image", {{"image", id}, {"error", done.error().text()}});
          BERTH_TRY(disk_.remove_image(id), "load");
        }
      }
      for (const RefRecord& ref : loaded.refs) {
        const auto image = images_.find(ref.image);
        if (image == images_.end() || image->second.record.removed) {
          BERTH_TRY(disk_.remove_ref(ref.name), "load");
          continue;
        }
        names_[ref.name] = ref.image;
        image->second.names.insert(ref.name);
      }
      for (const ContainerRecord& container : loaded.containers) {
        containers_[container.id] = container.image;
        if (const auto image = images_.find(container.image); image != images_.end())
          image->second.holders.insert(container.id);
      }
      BERTH_TRY(drop_unused_files(), "load");
    }
    std::vector<std::string> gone;
    {
      const MutexLock lock(mutex_);
      for (const auto& [id, image] : images_) {
        if (image.record.removed && image.holders.empty()) gone.push_back(id);
      }
    }
    for (const std::string& id : gone) {
      BERTH_TRY(erase_image(id), "load");
    }
    sweep_layers(true);
  }
  // Everything in tmp/ is left over, now or from before; nobody else writes there yet.
  BERTH_ASSIGN(const auto names, os::list_dir(disk_.tmp_dir()), "load");
  for (const std::string& name : names) unused.push_back(disk_.tmp_dir() + "/" + name);
  delete_later(std::move(unused));
  return {};
}

Result<> StoreImpl::load_image(ImageRecord record) {
  for (const std::string& layer : record.layers) {
    if (!layers_.contains(layer)) return fail(Code::kCorrupt, "its layer " + layer + " is gone");
  }
  if (record.index && !os::exists(disk_.image_index(record.id))) {
    std::vector<LayerRecord> layers;
    for (const std::string& layer : record.layers) layers.push_back(layers_.at(layer).record);
    BERTH_TRY(write_image_index(disk_, layers, disk_.image_index(record.id)), "image index");
  }
  BERTH_ASSIGN(const std::string body, disk_.read_meta(record.id), "configuration");
  BERTH_ASSIGN(spec::ImageConfig config, spec::parse_image_config(body), "configuration");
  use_layers(record);
  Image image;
  image.config = std::make_shared<const spec::ImageConfig>(std::move(config));
  image.record = std::move(record);
  std::string id = image.record.id;
  images_.emplace(std::move(id), std::move(image));
  return {};
}

Result<> StoreImpl::drop_unused_files() {
  BERTH_ASSIGN(const auto digests, disk_.list_meta(), "meta");
  std::set<std::string, std::less<>> used;
  std::vector<std::string> indexed;
  for (const auto& [id, image] : images_) {
    if (image.record.index) indexed.push_back(id);
    used.insert(id);
    used.insert(image.record.manifest);
  }
  for (const std::string& digest : digests) {
    if (!used.contains(digest)) BERTH_TRY(disk_.remove_meta(digest), "meta");
  }
  return disk_.drop_indexes(indexed);
}

void StoreImpl::use_layers(const ImageRecord& record) {
  for (const std::string& layer : record.layers) ++layers_[layer].users;
}

void StoreImpl::delete_later(std::vector<std::string> paths) {
  if (paths.empty()) return;
  janitor_.post([this, list = std::move(paths)] { delete_now(list); });
}

void StoreImpl::delete_now(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    if (path.empty()) continue;
    if (auto done = remove_any_tree(path, disk_.tmp_dir()); !done) {
      log_warn("image store: a folder stays until the next start", {{"path", path}, {"error", done.error().text()}});
    }
  }
}

}  // namespace berth::image
