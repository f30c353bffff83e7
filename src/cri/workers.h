#pragma once
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>

#include "base/thread_annotations.h"

namespace berth::cri {

/// Threads for the work behind the calls: they come with the load, up to a bound, and go when idle. A job may block for
/// as long as a dead volume lets it. Thread-safe.
class Workers final {
 public:
  struct Options {
    std::size_t max_threads = 256;
    unsigned idle_seconds = 10;
  };
  Workers() : Workers(Options{}) {}
  explicit Workers(Options options) : options_(options) {}
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  Workers(Workers&&) = delete;
  Workers& operator=(Workers&&) = delete;
  ~Workers();

  /// Queues `job`, which must not throw; beyond max_threads it waits its turn. After close() it is dropped.
  void post(std::function<void()> job) BERTH_EXCLUDES(mutex_);
  /// Refuses new jobs, runs what is queued and waits for all of it. Idempotent. Not from a job.
  void close() BERTH_EXCLUDES(mutex_);

 private:
  void run() BERTH_EXCLUDES(mutex_);

  const Options options_;
  Mutex mutex_;
  std::condition_variable_any work_;
  std::condition_variable_any gone_;
  std::deque<std::function<void()>> queue_ BERTH_GUARDED_BY(mutex_);
  std::size_t threads_ BERTH_GUARDED_BY(mutex_) = 0;
  std::size_t idle_ BERTH_GUARDED_BY(mutex_) = 0;
  bool closing_ BERTH_GUARDED_BY(mutex_) = false;
};

}  // namespace berth::cri
