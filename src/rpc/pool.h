#pragma once
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <string>

#include "base/thread_annotations.h"

namespace berth::rpc {

struct PoolOptions {
  std::string name;  ///< thread name, at most 15 bytes
  std::size_t max_threads = 4;
  std::size_t max_queue = 1024;  ///< waiting jobs; one more is refused
  unsigned idle_seconds = 20;    ///< a thread without work for so long ends, so that an idle daemon is small
};

/// A bounded pool whose threads come with the load and go with it. Thread-safe.
class Pool final {
 public:
  explicit Pool(PoolOptions options) : options_(std::move(options)) {}
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  Pool(Pool&&) = delete;
  Pool& operator=(Pool&&) = delete;
  /// Runs what is queued to its end and waits for it.
  ~Pool();

  /// Queues `job`, which must not throw. False when the queue is full or the pool is closing: the job will not run.
  [[nodiscard]] bool submit(std::function<void()> job) BERTH_EXCLUDES(mutex_);

 private:
  void run() BERTH_EXCLUDES(mutex_);

  const PoolOptions options_;
  Mutex mutex_;
  std::condition_variable_any work_;
  std::condition_variable_any gone_;
  std::deque<std::function<void()>> queue_ BERTH_GUARDED_BY(mutex_);
  std::size_t threads_ BERTH_GUARDED_BY(mutex_) = 0;
  std::size_t idle_ BERTH_GUARDED_BY(mutex_) = 0;
  bool closing_ BERTH_GUARDED_BY(mutex_) = false;
};

}  // namespace berth::rpc
