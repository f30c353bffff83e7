#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "base/unique_fd.h"

namespace berth::image {

/// A detached mount. It lives as long as somebody holds it, or something is mounted out of it.
using HeldMount = std::shared_ptr<const UniqueFd>;

/// The mounts that containers' root file systems stand on: one for each image, shared by its containers, so that they
/// share the page cache too. Shown nowhere; reached by path_of(). Thread-safe.
class ImageMounts final {
 public:
  /// The mount `key`, which `make` makes when there is none yet: without a lock, so it may run in two threads at once.
  Result<HeldMount> get(const std::string& key, const std::function<Result<UniqueFd>()>& make) BERTH_EXCLUDES(mutex_);
  /// The next get() makes it anew: what it stands on is gone or was replaced.
  void drop(const std::string& key) BERTH_EXCLUDES(mutex_);

 private:
  Mutex mutex_;
  std::map<std::string, HeldMount> mounts_ BERTH_GUARDED_BY(mutex_);
  std::uint64_t drops_ BERTH_GUARDED_BY(mutex_) = 0;
};

}  // namespace berth::image
