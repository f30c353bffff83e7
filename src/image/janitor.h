#pragma once
#include <deque>
#include <functional>
#include <thread>

#include "base/thread_annotations.h"

namespace berth::image {

/// Runs posted tasks one after another on a thread that exists only while there is work. Thread-safe.
class Janitor final {
 public:
  Janitor() = default;
  Janitor(const Janitor&) = delete;
  Janitor& operator=(const Janitor&) = delete;
  Janitor(Janitor&&) = delete;
  Janitor& operator=(Janitor&&) = delete;
  /// Waits for all tasks.
  ~Janitor();

  /// `task` must not throw and may block on disk. Runs on the caller when no thread can be made.
  void post(std::function<void()> task);

 private:
  void work();

  Mutex mutex_;
  std::deque<std::function<void()>> tasks_ BERTH_GUARDED_BY(mutex_);
  bool running_ BERTH_GUARDED_BY(mutex_) = false;
  std::jthread thread_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::image
