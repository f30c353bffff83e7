#include <algorithm>

#include "base/ids.h"
#include "base/log.h"
#include "image/archive_layer.h"
#include "image/image_index.h"
#include "image/printable.h"
#include "image/store_impl.h"
#include "os/file.h"

namespace berth::image {
namespace {

constexpr std::size_t kMaxIndex = 2ULL << 30;

bool has_bytes(const std::string& path, std::string_view wanted) {
  const auto found = os::read_file(path, kMaxIndex);
  return found && *found == wanted;
}

}  // namespace

Result<> StoreImpl::verify_layer(const LayerRecord& layer, bool repair, const std::stop_token& stop, Verification& out,
                                 bool& lost) {
  lost = false;
  if (!layer.archive()) {
    ++out.unpacked_layers;
    return {};
  }
  ++out.verified_layers;
  auto check = check_archive(disk_.archive_path(layer.diff_id), layer.archive_bytes, stop);
  if (!check && check.error().code() == Code::kCancelled) return fail(std::move(check).error());
  if (!check || check->diff_id != layer.diff_id) {
    lost = true;
    out.faults.push_back({layer.diff_id, check ? "its archive is " + check->diff_id + " now" : check.error().text()});
    return {};
  }
  const std::string path = disk_.layer_index(layer.diff_id);
  if (has_bytes(path, check->index)) return {};
  ImageFault fault{layer.diff_id, "its index is not that of its archive"};
  if (repair) {
    BERTH_TRY(os::write_file_atomic(path, check->index, 0400, os::Sync::kYes), "mend the index");
    mounts_.drop(layer.diff_id);
    fault.mended = true;
  }
  out.faults.push_back(std::move(fault));
  return {};
}

/// After the layers: their indexes are right, or were told of.
Result<> StoreImpl::verify_index(const ImageRecord& record, bool repair, Verification& out) {
  if (!record.index) return {};
  const std::string path = disk_.image_index(record.id);
  const std::string fresh = disk_.tmp_dir() + "/" + random_hex(8);
  BERTH_ASSIGN(const auto layers, layers_of(record), "index");
  BERTH_TRY(write_image_index(disk_, layers, fresh), "index");
  auto wanted = os::read_file(fresh, kMaxIndex);
  if (!wanted) return fail(std::move(wanted).error());
  BERTH_TRY(os::remove_file(fresh), "index");
  if (has_bytes(path, *wanted)) return {};
  ImageFault fault{record.id, "its index is not that of its layers"};
  const MutexLock change(change_mutex_);
  const bool there = [&] {
    const MutexLock lock(mutex_);
    return images_.contains(record.id);
  }();
  if (repair && there) {
    BERTH_TRY(os::write_file_atomic(path, *wanted, 0400, os::Sync::kYes), "mend the index");
    mounts_.drop(record.id);
    fault.mended = true;
  }
  out.faults.push_back(std::move(fault));
  return {};
}

Result<> StoreImpl::lose_layers(const std::vector<std::string>& diff_ids, Verification& out) {
  const MutexLock change(change_mutex_);
  std::vector<std::string> images;
  std::vector<std::string> pinned;
  {
    const MutexLock lock(mutex_);
    for (const auto& [id, image] : images_) {
      const auto& used = image.record.layers;
      const bool hit =
          std::ranges::any_of(diff_ids, [&](const auto& lost) { return std::ranges::count(used, lost) != 0; });
      if (!hit) continue;
      images.push_back(id);
      out.lost_names.insert(out.lost_names.end(), image.names.begin(), image.names.end());
      for (const auto& layer : used) {
        const auto it = layers_.find(layer);
        if (it == layers_.end()) continue;  // taken away before
        ++it->second.pins;
        pinned.push_back(layer);
      }
    }
  }
  for (const auto& name : out.lost_names) {
    BERTH_TRY(disk_.remove_ref(name), "take a damaged image away");
    const MutexLock lock(mutex_);
    if (const auto it = names_.find(name); it != names_.end()) {
      images_.at(it->second).names.erase(name);
      names_.erase(it);
    }
  }
  for (const auto& id : images) {
    mounts_.drop(id);  // it shows the damaged archive, and does so for containers that stand on it
    BERTH_ASSIGN(auto garbage, erase_image(id), "take a damaged image away");
    delete_later(std::move(garbage));
  }
  for (const auto& lost : diff_ids) {
    mounts_.drop(lost);
    BERTH_ASSIGN(auto aside, disk_.set_aside(disk_.layer_dir(lost)), "take a damaged layer away");
    delete_later({std::move(aside)});
    const MutexLock lock(mutex_);
    layers_.erase(lost);
  }
  const MutexLock lock(mutex_);
  for (const auto& layer : pinned) {
    const auto it = layers_.find(layer);
    if (it == layers_.end()) continue;
    --it->second.pins;
    it->second.idle_since = std::chrono::steady_clock::now();  // for the pull that follows
  }
  return {};
}

Result<Verification> StoreImpl::verify(std::string_view name_or_id, bool repair, std::stop_token stop) {
  ImageRecord record;
  {
    const MutexLock lock(mutex_);
    const Image* image = find_image(name_or_id, nullptr);
    if (image == nullptr) return fail(Code::kNotFound, "no image \"" + printable(name_or_id) + "\"");
    record = image->record;
    // Nobody removes them while they are read.
    for (const std::string& layer : record.layers) ++layers_.at(layer).pins;
  }
  auto out = verify_pinned(record, repair, stop);
  release_layers(record.layers, out && !out->lost_names.empty());
  return out;
}

Result<Verification> StoreImpl::verify_pinned(const ImageRecord& record, bool repair, const std::stop_token& stop) {
  Verification out;
  out.image_id = record.id;
  std::vector<std::string> lost;
  BERTH_ASSIGN(const auto layers, layers_of(record), "image " + record.id);
  for (const LayerRecord& layer : layers) {
    bool gone = false;
    BERTH_TRY(verify_layer(layer, repair, stop, out, gone), "layer " + layer.diff_id);
    if (gone) lost.push_back(layer.diff_id);
  }
  // Of indexes that are wrong and stay so nothing can be made.
  const bool sound = lost.empty() && std::ranges::all_of(out.faults, &ImageFault::mended);
  if (sound) BERTH_TRY(verify_index(record, repair, out), "image " + record.id);
  for (const ImageFault& fault : out.faults) {
    log_warn("image store: damage", {{"image", record.id}, {"object", fault.object}, {"what", fault.what}});
  }
  if (repair && !lost.empty()) BERTH_TRY(lose_layers(lost, out), "repair");
  return out;
}

}  // namespace berth::image
