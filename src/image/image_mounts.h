#pragma once
#include <functional>
#include <map>
#include <string>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "base/unique_fd.h"

namespace berth::image {

/// The mounts that containers' root file systems stand on: one for each image, shared by its containers, so that they
/// share the page cache too. Held by descriptors, shown nowhere. What was mounted out of one goes on without it.
/// Thread-safe.
class ImageMounts final {
 public:
  /// The path of the mount `key`, which `make` makes when there is none yet. Blocks while somebody makes one.
  Result<std::string> get(const std::string& key, const std::function<Result<UniqueFd>()>& make);
  void drop(const std::string& key);

 private:
  Mutex mutex_;
  std::map<std::string, UniqueFd> mounts_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::image
