#include "base/log.h"
#include "image/archive_layer.h"
#include "image/directory_layer.h"
#include "image/store_impl.h"

namespace berth::image {
namespace {

/// How long a verified layer of a failed pull waits for the next try: longer than the kubelet's longest back-off.
constexpr std::chrono::minutes kKeepForRetry{10};

}  // namespace

Result<std::unique_ptr<LayerForm>> StoreImpl::start_layer(const std::string& dir) const {
  if (archives_) return ArchiveLayer::start(dir, options_.max_layer_bytes);
  return DirectoryLayer::start(dir, options_.max_layer_bytes);
}

Result<StoreImpl::Claim> StoreImpl::claim_layer(const std::string& diff_id, std::stop_token stop) {
  MutexLock lock(mutex_);
  const bool free = fetched_.wait(lock, stop, [&]() BERTH_REQUIRES(mutex_) { return !fetching_.contains(diff_id); });
  if (!free) return fail(Code::kCancelled, "the pull was cancelled");
  if (const auto it = layers_.find(diff_id); it != layers_.end()) {
    ++it->second.pins;
    return Claim::kPresent;
  }
  fetching_.insert(diff_id);
  return Claim::kFetch;
}

void StoreImpl::settle_layer(const std::string& diff_id, const LayerRecord* record) {
  {
    const MutexLock lock(mutex_);
    fetching_.erase(diff_id);
    if (record != nullptr) layers_[diff_id] = Layer{.record = *record, .users = 0, .pins = 1, .idle_since = {}};
  }
  fetched_.notify_all();
}

void StoreImpl::release_layers(const std::vector<std::string>& diff_ids, bool keep_for_retry) {
  std::vector<std::string> garbage;
  {
    const MutexLock change(change_mutex_);
    {
      const MutexLock lock(mutex_);
      for (const std::string& id : diff_ids) {
        const auto it = layers_.find(id);
        if (it == layers_.end() || it->second.pins == 0) continue;
        --it->second.pins;
        it->second.idle_since = keep_for_retry ? std::chrono::steady_clock::now() : SteadyTime{};
      }
    }
    garbage = sweep_layers(false);
  }
  delete_now(garbage);
}

std::vector<std::string> StoreImpl::sweep_layers(bool all) {
  std::vector<std::string> unused;
  {
    const MutexLock lock(mutex_);
    const SteadyTime old = std::chrono::steady_clock::now() - kKeepForRetry;
    for (auto it = layers_.begin(); it != layers_.end();) {
      const Layer& layer = it->second;
      if (layer.users == 0 && layer.pins == 0 && (all || layer.idle_since < old)) {
        unused.push_back(it->first);
        fetching_.insert(it->first);  // nobody may fetch it anew before its folder has gone
        it = layers_.erase(it);
      } else {
        ++it;
      }
    }
  }
  std::vector<std::string> aside;
  for (const std::string& id : unused) {
    mounts_.drop(id);
    auto path = disk_.set_aside(disk_.layer_dir(id));
    if (path) {
      aside.push_back(std::move(*path));
    } else {
      log_warn("image store: an unused layer stays", {{"layer", id}, {"error", path.error().text()}});
    }
  }
  if (!unused.empty()) {
    const MutexLock lock(mutex_);
    for (const std::string& id : unused) fetching_.erase(id);
  }
  fetched_.notify_all();
  return aside;
}

}  // namespace berth::image
