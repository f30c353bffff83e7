#include "shim/pod_record.h"

#include <algorithm>

#include "base/log.h"
#include "os/file.h"

namespace berth::shim {

void PodRecord::look_every(std::chrono::seconds interval) {
  timer_ = loop_.add_periodic(interval, [this] { look(); });
}

void PodRecord::look() {
  if (os::exists(path_)) return;
  const auto& containers = pod_.containers();
  const bool idle = std::ranges::all_of(
      containers, [](const auto& entry) { return entry.second->init.state == ProcessState::kStopped; });
  if (!idle) return;
  log_warn("the pod's record is gone and nothing runs: the end", {{"file", path_}});
  stop_();
}

}  // namespace berth::shim
