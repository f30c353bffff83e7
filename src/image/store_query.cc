#include <sys/stat.h>

#include <algorithm>

#include "base/ids.h"
#include "image/digest.h"
#include "image/printable.h"
#include "image/store_impl.h"
#include "image/tree.h"

namespace berth::image {
namespace {

constexpr std::size_t kShortestIdPrefix = 8;

bool all_hex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

ImageInfo StoreImpl::info_of(const Image& image) const {
  ImageInfo out;
  out.id = image.record.id;
  for (const std::string& name : image.names) {  // sorted, so the lists are too
    (name.find('@') == std::string::npos ? out.repo_tags : out.repo_digests).push_back(name);
  }
  out.size_bytes = image.record.meta_bytes;
  for (const std::string& layer : image.record.layers) {
    if (const auto it = layers_.find(layer); it != layers_.end()) out.size_bytes += it->second.record.bytes;
  }
  out.config = *image.config;
  return out;
}

std::vector<ImageInfo> StoreImpl::list() const {
  const MutexLock lock(mutex_);
  std::vector<ImageInfo> out;
  out.reserve(images_.size());
  for (const auto& [id, image] : images_) {
    if (!image.record.removed) out.push_back(info_of(image));
  }
  return out;
}

/// The image that `name_or_id` means. `name` (may be null) gets the name when it was one, else becomes empty.
const StoreImpl::Image* StoreImpl::find_image(std::string_view name_or_id, std::string* name) const {
  if (name != nullptr) name->clear();
  const auto by_id = [this](std::string_view id) BERTH_REQUIRES(mutex_) -> const Image* {
    const auto it = images_.find(id);
    return it == images_.end() || it->second.record.removed ? nullptr : &it->second;
  };
  if (valid_digest(name_or_id)) return by_id(name_or_id);
  if (name_or_id.size() >= kShortestIdPrefix && name_or_id.size() <= 64 && all_hex(name_or_id)) {
    const std::string prefix = "sha256:" + std::string(name_or_id);
    const Image* found = nullptr;
    for (auto it = images_.lower_bound(prefix); it != images_.end() && it->first.starts_with(prefix); ++it) {
      if (it->second.record.removed) continue;
      if (found != nullptr) return nullptr;  // ambiguous
      found = &it->second;
    }
    // A short hex word may be a repository's name as well.
    if (found != nullptr || name_or_id.size() == 64) return found;
  }
  const auto reference = parse_reference(name_or_id, options_.default_registry);
  if (!reference) return nullptr;
  const std::string full = reference->to_string();
  const auto it = names_.find(full);
  if (it == names_.end()) return nullptr;
  if (name != nullptr) *name = full;
  return by_id(it->second);
}

std::optional<ImageInfo> StoreImpl::find(std::string_view name_or_id) const {
  const MutexLock lock(mutex_);
  const Image* image = find_image(name_or_id, nullptr);
  if (image == nullptr) return std::nullopt;
  return info_of(*image);
}

FsUsage StoreImpl::usage() const {
  FsUsage out;
  out.timestamp_ns = wall_now_ns();
  out.mountpoint = disk_.root();
  const MutexLock lock(mutex_);
  for (const auto& [id, layer] : layers_) {
    out.used_bytes += layer.record.bytes;
    out.inodes_used += layer.record.inodes;
  }
  for (const auto& [id, image] : images_) {
    out.used_bytes += image.record.meta_bytes;
    out.inodes_used += 3;
  }
  return out;
}

Result<> StoreImpl::remove(std::string_view name_or_id) {
  std::vector<std::string> garbage;
  {
    const MutexLock change(change_mutex_);
    std::string id;
    std::vector<std::string> names;
    bool last = true;
    {
      const MutexLock lock(mutex_);
      std::string name;
      const Image* image = find_image(name_or_id, &name);
      if (image == nullptr) return fail(Code::kNotFound, "no image \"" + printable(name_or_id) + "\"");
      id = image->record.id;
      if (name.empty()) {
        names.assign(image->names.begin(), image->names.end());
      } else {
        names.push_back(name);
        // The digest names that came with a tag go with the last tag: users never typed them.
        const bool other_tag = std::any_of(image->names.begin(), image->names.end(), [&](const std::string& n) {
          return n != name && n.find('@') == std::string::npos;
        });
        const bool is_digest = name.find('@') != std::string::npos;
        if (!other_tag && !is_digest) names.assign(image->names.begin(), image->names.end());
        last = is_digest ? image->names.size() == 1 : !other_tag;
      }
    }
    for (const std::string& name : names) {
      BERTH_TRY(disk_.remove_ref(name), "remove image");
      const MutexLock lock(mutex_);
      names_.erase(name);
      if (const auto it = images_.find(id); it != images_.end()) it->second.names.erase(name);
    }
    if (last) {
      BERTH_ASSIGN(garbage, erase_image(id), "remove image");
    }
  }
  delete_now(garbage);
  return {};
}

Result<std::vector<std::string>> StoreImpl::erase_image(const std::string& id) {
  ImageRecord record;
  bool held = false;
  bool manifest_shared = false;
  {
    const MutexLock lock(mutex_);
    const auto it = images_.find(id);
    if (it == images_.end()) return std::vector<std::string>{};
    held = !it->second.holders.empty();
    it->second.record.removed = true;  // from here on no new container
    record = it->second.record;
    manifest_shared = std::any_of(images_.begin(), images_.end(), [&](const auto& other) {
      return other.first != id && other.second.record.manifest == record.manifest;
    });
  }
  if (held) {
    BERTH_TRY(disk_.write_image(record), "keep an image for its containers");
    return std::vector<std::string>{};
  }
  mounts_.drop(id);
  BERTH_TRY(disk_.remove_image(id), "remove image");
  BERTH_TRY(disk_.remove_meta(id), "remove image");
  if (!manifest_shared) BERTH_TRY(disk_.remove_meta(record.manifest), "remove image");
  {
    const MutexLock lock(mutex_);
    images_.erase(id);
    for (const std::string& layer : record.layers) {
      if (const auto it = layers_.find(layer); it != layers_.end() && it->second.users > 0) --it->second.users;
    }
  }
  return sweep_layers(true);
}

}  // namespace berth::image
