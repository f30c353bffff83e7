#pragma once
#include <chrono>
#include <functional>
#include <string>

#include "event/loop.h"
#include "shim/pod.h"

namespace berth::shim {

/// Ends a shim that nobody will ask for any more: its pod's record (sandbox.json in its folder) has been removed and
/// nothing of the pod runs. A daemon that removes a pod says Shutdown before; this is for one that could not, or a
/// state folder that was cleared away below it. By looking now and then: inotify would cost each pod one of the few
/// instances that a user may have (128).
class PodRecord final {
 public:
  /// `pod` is borrowed; `stop` is called from the loop.
  PodRecord(event::Loop& loop, const Pod& pod, std::string path, std::function<void()> stop)
      : loop_(loop), pod_(pod), path_(std::move(path)), stop_(std::move(stop)) {}
  ~PodRecord() { loop_.cancel(timer_); }
  PodRecord(const PodRecord&) = delete;
  PodRecord& operator=(const PodRecord&) = delete;
  PodRecord(PodRecord&&) = delete;
  PodRecord& operator=(PodRecord&&) = delete;

  void look_every(std::chrono::seconds interval);

 private:
  void look();

  event::Loop& loop_;
  const Pod& pod_;
  std::string path_;
  std::function<void()> stop_;
  event::TimerId timer_ = event::kNoTimer;
};

}  // namespace berth::shim
