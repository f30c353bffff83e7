#include "image/image_mounts.h"

#include "image/erofs_mount.h"

namespace berth::image {

Result<std::string> ImageMounts::get(const std::string& key, const std::function<Result<UniqueFd>()>& make) {
  const MutexLock lock(mutex_);
  const auto there = mounts_.find(key);
  if (there != mounts_.end()) return path_of(there->second.get());
  auto made = make();
  if (!made) return fail(std::move(made).error());
  return path_of(mounts_.emplace(key, std::move(*made)).first->second.get());
}

void ImageMounts::drop(const std::string& key) {
  UniqueFd gone;  // closed after the lock: the last use of a mount takes it down
  const MutexLock lock(mutex_);
  const auto there = mounts_.find(key);
  if (there == mounts_.end()) return;
  gone = std::move(there->second);
  mounts_.erase(there);
}

}  // namespace berth::image
