#include "image/image_mounts.h"

namespace berth::image {

Result<HeldMount> ImageMounts::get(const std::string& key, const std::function<Result<UniqueFd>()>& make) {
  std::uint64_t drops = 0;
  {
    const MutexLock lock(mutex_);
    if (const auto there = mounts_.find(key); there != mounts_.end()) return there->second;
    drops = drops_;
  }
  auto made = make();
  if (!made) return fail(std::move(made).error());
  auto mount = std::make_shared<const UniqueFd>(std::move(*made));
  const MutexLock lock(mutex_);
  // Of what was dropped meanwhile nothing is kept: it may show what is gone.
  if (drops != drops_) return mount;
  return mounts_.emplace(key, std::move(mount)).first->second;
}

void ImageMounts::drop(const std::string& key) {
  HeldMount gone;  // closed after the lock: the last use of a mount takes it down
  const MutexLock lock(mutex_);
  ++drops_;
  const auto there = mounts_.find(key);
  if (there == mounts_.end()) return;
  gone = std::move(there->second);
  mounts_.erase(there);
}

}  // namespace berth::image
