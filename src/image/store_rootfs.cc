#include "base/failpoint.h"
#include "base/ids.h"
#include "base/strings.h"
#include "image/erofs_mount.h"
#include "image/printable.h"
#include "image/store_impl.h"
#include "image/tree.h"
#include "os/file.h"

namespace berth::image {

Result<std::vector<LayerRecord>> StoreImpl::layers_of(const ImageRecord& record) const {
  const MutexLock lock(mutex_);
  std::vector<LayerRecord> out;
  for (const std::string& layer : record.layers) {
    const auto it = layers_.find(layer);
    if (it == layers_.end()) return fail(Code::kNotFound, "layer " + layer + " was taken away: pull the image again");
    out.push_back(it->second.record);
  }
  return out;
}

Result<> StoreImpl::add_lower_dir(const LayerRecord& layer, ImageFolders& out) const {
  if (!layer.archive()) {
    out.paths.push_back(disk_.layer_tree(layer.diff_id));
    return {};
  }
  BERTH_ASSIGN(
      HeldMount mount,
      mounts_.get(layer.diff_id,
                  [&] { return mount_erofs(disk_.layer_index(layer.diff_id), {disk_.archive_path(layer.diff_id)}); }),
      "layer " + layer.diff_id);
  out.paths.push_back(path_of(mount->get()));
  out.kept.push_back(std::move(mount));
  return {};
}

Result<ImageFolders> StoreImpl::lower_dirs(const ImageRecord& record) const {
  if (record.layers.empty()) return ImageFolders{{disk_.empty_dir()}};  // overlayfs wants one
  ImageFolders out;
  if (record.index) {
    BERTH_ASSIGN(HeldMount merged,
                 mounts_.get(record.id,
                             [&] {
                               std::vector<std::string> archives;
                               for (const std::string& layer : record.layers)
                                 archives.push_back(disk_.archive_path(layer));
                               return mount_erofs(disk_.image_index(record.id), archives);
                             }),
                 "image");
    out.paths.push_back(path_of(merged->get()));
    out.kept.push_back(std::move(merged));
    return out;
  }
  BERTH_ASSIGN(const auto layers, layers_of(record), "image");
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    if (auto added = add_lower_dir(*layer, out); !added) return fail(std::move(added).error());
  }
  return out;
}

/// Registers the container as a user of the image, so that nobody removes the layers from under it.
Result<ImageRecord> StoreImpl::hold_image(const std::string& container_id, const std::string& image_id) {
  const MutexLock lock(mutex_);
  const Image* image = find_image(image_id, nullptr);
  if (const auto held = containers_.find(container_id); held != containers_.end()) {
    if (image == nullptr) {  // removed meanwhile, but kept for this container
      const auto it = images_.find(held->second);
      if (it != images_.end() && held->second == image_id) image = &it->second;
    }
    if (image != nullptr && held->second != image->record.id) {
      return fail(Code::kExists, "container " + container_id + " has a writable layer over another image");
    }
  }
  if (image == nullptr) return fail(Code::kNotFound, "no image \"" + printable(image_id) + "\"");
  const std::string& id = image->record.id;
  containers_[container_id] = id;
  images_.find(id)->second.holders.insert(container_id);
  return image->record;
}

Result<RootfsMount> StoreImpl::prepare_rootfs(const std::string& container_id, const std::string& image_id,
                                              const std::optional<RootfsIds>& ids) {
  if (!valid_id(container_id))
    return fail(Code::kInvalid, "container id \"" + printable(container_id) + "\" is not valid");
  BERTH_ASSIGN(const ImageRecord record, hold_image(container_id, image_id), "prepare root file system");
  if (auto made = disk_.make_container(container_id, record, ids); !made) {
    ignore(remove_rootfs(container_id), "the failure to make it is what the caller must see");
    return fail(std::move(made).error().in("prepare root file system"));
  }
  BERTH_TRY(failpoint("rootfs.made"), "prepare root file system");
  BERTH_ASSIGN(ImageFolders lower, lower_dirs(record), "prepare root file system");
  const std::string dir = disk_.container_dir(container_id);
  RootfsMount out{"overlay", "overlay", {}, std::move(lower.kept)};
  out.options = {"lowerdir=" + join(lower.paths, ":"), "upperdir=" + dir + "/upper", "workdir=" + dir + "/work"};
  if (ids) {
    out.options.push_back("uidmap=0:" + std::to_string(ids->first_uid) + ":" + std::to_string(ids->uid_count));
    out.options.push_back("gidmap=0:" + std::to_string(ids->first_gid) + ":" + std::to_string(ids->gid_count));
  }
  if (overlay_index_off_) out.options.emplace_back("index=off");
  // Nothing of a container's writable layer is used again after the kernel went down, so no sync of it is worth waiting
  // for.
  out.options.emplace_back("volatile");
  return out;
}

Result<RootfsMount> StoreImpl::prepare_volume(const std::string& volume_id, const std::string& image_id) {
  if (!valid_id(volume_id)) return fail(Code::kInvalid, "volume id \"" + printable(volume_id) + "\" is not valid");
  BERTH_ASSIGN(const ImageRecord record, hold_image(volume_id, image_id), "prepare a volume");
  if (auto made = disk_.own_image(volume_id, record); !made) {
    ignore(remove_rootfs(volume_id), "the failure to make it is what the caller must see");
    return fail(std::move(made).error().in("prepare a volume"));
  }
  BERTH_ASSIGN(ImageFolders lower, lower_dirs(record), "prepare a volume");
  if (record.index) return RootfsMount{"bind", lower.paths.front(), {"ro"}, std::move(lower.kept)};
  // overlayfs without an upper folder wants two; a layer alone would show its whiteouts.
  if (lower.paths.size() == 1) lower.paths.push_back(disk_.empty_dir());
  return RootfsMount{"overlay", "overlay", {"lowerdir=" + join(lower.paths, ":")}, std::move(lower.kept)};
}

Result<> StoreImpl::remove_rootfs(const std::string& container_id) {
  if (!valid_id(container_id)) return {};
  BERTH_ASSIGN(std::string aside, disk_.set_aside(disk_.container_dir(container_id)), "remove root file system");
  BERTH_TRY(failpoint("rootfs.aside"), "remove root file system");
  std::string orphan;
  {
    const MutexLock lock(mutex_);
    const auto held = containers_.find(container_id);
    if (held != containers_.end()) {
      if (const auto it = images_.find(held->second); it != images_.end()) {
        it->second.holders.erase(container_id);
        if (it->second.record.removed && it->second.holders.empty()) orphan = it->first;
      }
      containers_.erase(held);
    }
  }
  if (!aside.empty()) delete_later({std::move(aside)});
  if (orphan.empty()) return {};
  const MutexLock change(change_mutex_);
  {
    const MutexLock lock(mutex_);  // a pull may have brought it back, or a container may hold it again
    const auto it = images_.find(orphan);
    if (it == images_.end() || !it->second.record.removed || !it->second.holders.empty()) return {};
  }
  BERTH_ASSIGN(std::vector<std::string> garbage, erase_image(orphan), "remove the image of the last container");
  delete_later(std::move(garbage));
  return {};
}

std::vector<std::string> StoreImpl::rootfs_holders() const {
  const MutexLock lock(mutex_);
  std::vector<std::string> out;
  for (const auto& [id, image] : containers_) out.push_back(id);
  return out;
}

Result<FsUsage> StoreImpl::rootfs_usage(const std::string& container_id) const {
  {
    const MutexLock lock(mutex_);
    if (!containers_.contains(container_id))
      return fail(Code::kNotFound, "container " + printable(container_id) + " has no writable layer");
  }
  const std::string upper = disk_.container_dir(container_id) + "/upper";
  BERTH_ASSIGN(const TreeUsage tree, tree_usage(upper), "measure " + container_id);
  return FsUsage{wall_now_ns(), upper, tree.bytes, tree.inodes};
}

Result<ImageFolders> StoreImpl::layer_dirs(const std::string& image_id) const {
  ImageRecord record;
  {
    const MutexLock lock(mutex_);
    const Image* image = find_image(image_id, nullptr);
    if (image == nullptr) {  // removed for users, but its containers still look names up
      const auto it = images_.find(image_id);
      if (it != images_.end()) image = &it->second;
    }
    if (image == nullptr) return fail(Code::kNotFound, "no image \"" + printable(image_id) + "\"");
    record = image->record;
  }
  return lower_dirs(record);
}

}  // namespace berth::image
