#include <sys/stat.h>

#include <algorithm>

#include "base/log.h"
#include "image/digest.h"
#include "image/image_index.h"
#include "image/implied_dirs.h"
#include "image/pull_job.h"
#include "image/store_impl.h"

namespace berth::image {
namespace {

/// Callers with other credentials must not ride on a pull that these would not have been allowed.
Result<std::string> job_key(const Reference& reference, const Auth& auth) {
  std::string secret;
  for (const std::string* part :
       {&auth.username, &auth.password, &auth.auth, &auth.server_address, &auth.identity_token, &auth.registry_token}) {
    secret += std::to_string(part->size()) + ":" + *part;
  }
  BERTH_ASSIGN(const std::string digest, sha256_of(secret), "pull");
  return reference.to_string() + " " + digest;
}

}  // namespace

Result<ImageInfo> StoreImpl::pull(const std::string& name, PullOptions options) {
  BERTH_ASSIGN(const Reference reference, parse_reference(name, options_.default_registry), "pull");
  BERTH_ASSIGN(const std::string key, job_key(reference, options.auth), "pull");
  std::shared_ptr<PullJob> job;
  bool is_new = false;
  {
    const MutexLock lock(mutex_);
    auto& slot = pulls_[key];
    is_new = !slot || !slot->join();
    if (is_new) {
      slot = std::make_shared<PullJob>(*this, reference, std::move(options.auth));
      slot->join();
    }
    job = slot;
  }
  const auto forget = [this, key, raw = job.get()] {
    const MutexLock lock(mutex_);
    const auto it = pulls_.find(key);
    if (it != pulls_.end() && it->second.get() == raw) pulls_.erase(it);
  };
  if (is_new) {
    if (auto started = job->start(forget); !started) {
      forget();
      job->abandon(started.error());
      return fail(std::move(started).error());
    }
  }
  return job->wait(options);
}

std::optional<Result<ImageInfo>> StoreImpl::reuse_image(const Reference& reference, const std::string& target_digest,
                                                        const std::string& manifest_digest) {
  const MutexLock change(change_mutex_);
  std::string id;
  {
    const MutexLock lock(mutex_);
    const auto it = std::find_if(images_.begin(), images_.end(), [&](const auto& entry) {
      return entry.second.record.manifest == manifest_digest && !entry.second.record.removed;
    });
    if (it == images_.end()) return std::nullopt;
    id = it->first;
  }
  if (auto named = add_names(reference, target_digest, id); !named)
    return Result<ImageInfo>(fail(std::move(named).error()));
  const MutexLock lock(mutex_);
  return Result<ImageInfo>(info_of(images_.at(id)));
}

/// Points the tag (if it was pulled by tag) and the digest name at the image. A tag leaves the image that had it.
Result<> StoreImpl::add_names(const Reference& reference, const std::string& target_digest,
                              const std::string& image_id) {
  std::vector<std::string> names = {reference.name() + "@" + target_digest};
  if (reference.digest.empty()) names.push_back(reference.tagged());
  for (const std::string& name : names) {
    {
      const MutexLock lock(mutex_);
      const auto it = names_.find(name);
      if (it != names_.end() && it->second == image_id) continue;
    }
    BERTH_TRY(disk_.write_ref({name, image_id}), "name the image");
    const MutexLock lock(mutex_);
    if (const auto old = names_.find(name); old != names_.end()) {
      if (const auto it = images_.find(old->second); it != images_.end()) it->second.names.erase(name);
    }
    names_[name] = image_id;
    images_.at(image_id).names.insert(name);
  }
  return {};
}

/// The record of a pulled image: layers without repetitions (an upper repetition hides the lower one) and cut below an
/// opaque root; owner and mode of "/" from the topmost layer that says something about it.
Result<ImageRecord> StoreImpl::record_for(const PulledImage& pulled) {
  ImageRecord out;
  out.id = pulled.config_digest;
  out.manifest = pulled.manifest_digest;
  out.meta_bytes = pulled.config_body.size() + pulled.manifest_body.size();
  out.pulled_ns = wall_now_ns();
  std::set<std::string> seen;
  for (auto it = pulled.diff_ids.rbegin(); it != pulled.diff_ids.rend(); ++it) {
    if (!seen.insert(*it).second) continue;
    out.layers.push_back(*it);
    const MutexLock lock(mutex_);
    if (layers_.at(*it).record.root_opaque) break;
  }
  std::reverse(out.layers.begin(), out.layers.end());
  return out;
}

Result<> StoreImpl::settle_directories(ImageRecord& record) {
  std::vector<std::string> below;  // nearest first
  KeptMounts kept;
  for (const std::string& layer : record.layers) {
    LayerRecord info;
    bool in_use = false;  // what a container sees must not change under it
    {
      const MutexLock lock(mutex_);
      info = layers_.at(layer).record;
      for (const auto& [id, image] : images_) {
        const auto& used = image.record.layers;
        in_use |= !image.holders.empty() && std::find(used.begin(), used.end(), layer) != used.end();
      }
    }
    ImageFolders here;
    BERTH_TRY(add_lower_dir(info, here), "layer");
    const std::string& tree = here.paths.front();
    kept.insert(kept.end(), here.kept.begin(), here.kept.end());
    const bool change = !in_use && !info.archive();
    BERTH_TRY(adopt_lower_attributes(tree, info.implied_dirs, below, change), "layer " + layer);
    below.insert(below.begin(), tree);
    struct stat st{};
    if (!info.has_root_entry) continue;
    if (::stat(tree.c_str(), &st) != 0) return fail_errno(errno, "stat " + tree);
    record.root_mode = st.st_mode & 07777;
    record.root_uid = st.st_uid;
    record.root_gid = st.st_gid;
  }
  return {};
}

Result<> StoreImpl::index_image(ImageRecord& record, const std::vector<LayerRecord>& layers) const {
  BERTH_ASSIGN(const ImageIndex index, write_image_index(disk_, layers, disk_.image_index(record.id)), "index");
  record.index = true;
  record.meta_bytes += index.bytes;
  record.root_mode = index.root.mode;
  record.root_uid = index.root.uid;
  record.root_gid = index.root.gid;
  return {};
}

/// Record and documents of an image. What was written stays until the next start when a later write fails and the image
/// is new, so it is taken away again.
Result<> StoreImpl::write_documents(const PulledImage& pulled, const ImageRecord& record) {
  auto written = disk_.write_meta(pulled.config_digest, pulled.config_body);
  if (written) written = disk_.write_meta(pulled.manifest_digest, pulled.manifest_body);
  if (written) written = disk_.write_image(record);
  if (written) return {};
  const MutexLock lock(mutex_);
  if (!images_.contains(record.id)) {
    ignore(disk_.remove_meta(pulled.config_digest), "the failed write is the error to tell");
    ignore(disk_.remove_meta(pulled.manifest_digest), "the failed write is the error to tell");
    ignore(disk_.remove_image(record.id), "the failed write is the error to tell");  // its index is written before
  }
  return written;
}

Result<ImageInfo> StoreImpl::commit(const PulledImage& pulled, const std::vector<std::string>& fresh) {
  BERTH_ASSIGN(ImageRecord record, record_for(pulled), "keep the image");
  const MutexLock change(change_mutex_);
  BERTH_ASSIGN(const auto layers, layers_of(record), "keep the image");
  const bool archives = !layers.empty() && std::ranges::all_of(layers, &LayerRecord::archive);
  BERTH_TRY(archives ? index_image(record, layers) : settle_directories(record), "keep the image");
  BERTH_TRY(write_documents(pulled, record), "keep the image");
  std::string old_manifest;
  {
    const MutexLock lock(mutex_);
    Image& image = images_[record.id];
    if (!image.record.id.empty()) {  // kept for containers, or the same configuration under another manifest
      old_manifest = image.record.manifest;
      for (const std::string& layer : image.record.layers) {
        if (const auto it = layers_.find(layer); it != layers_.end() && it->second.users > 0) {
          --it->second.users;  // 0: damaged, taken away, and now fetched again
        }
      }
    }
    image.config = std::make_shared<const spec::ImageConfig>(pulled.config);
    image.record = record;
    use_layers(record);
    const bool shared = std::any_of(images_.begin(), images_.end(),
                                    [&](const auto& entry) { return entry.second.record.manifest == old_manifest; });
    if (shared) old_manifest.clear();
  }
  if (!old_manifest.empty()) BERTH_TRY(disk_.remove_meta(old_manifest), "keep the image");
  BERTH_TRY(add_names(pulled.reference, pulled.target_digest, record.id), "keep the image");
  if (!fresh.empty()) {
    // What a power cut would lose before this is done, the next start drops and the next pull fetches again.
    janitor_.post([this, fresh] {
      if (auto done = disk_.sync_layers(fresh); !done) log_warn("image store: flush", {{"error", done.error().text()}});
    });
  }
  const MutexLock lock(mutex_);
  return info_of(images_.at(record.id));
}

}  // namespace berth::image
