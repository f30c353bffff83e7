#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "base/unique_fd.h"
#include "event/loop.h"

namespace berth::ttrpc {

/// One thread with an event loop that reads for any number of Clients and runs their callbacks. Must outlive them.
/// Blocks all signals in its thread. post() and is_current_thread() are thread-safe.
class Reactor final {
 public:
  /// Errors: by errno of epoll_create1(2), eventfd(2) or thread creation.
  [[nodiscard]] static Result<std::unique_ptr<Reactor>> create();
  /// Runs what was posted before, then ends the thread and waits for it. Not from a callback.
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;
  Reactor(Reactor&&) = delete;
  Reactor& operator=(Reactor&&) = delete;

  /// Runs `function` on the reactor's thread, after what was posted earlier. It must not block and must not throw.
  void post(std::function<void()> function) BERTH_EXCLUDES(mutex_);
  /// Waits until everything that was posted before has run, callbacks of closed clients included. Not from a callback.
  void drain() BERTH_EXCLUDES(mutex_);
  [[nodiscard]] bool is_current_thread() const { return std::this_thread::get_id() == thread_.get_id(); }
  /// For the reactor's thread only.
  [[nodiscard]] event::Loop& loop() { return *loop_; }

 private:
  Reactor(std::unique_ptr<event::Loop> loop, UniqueFd wake) : loop_(std::move(loop)), wake_(std::move(wake)) {}
  Result<> start();
  void run_posted() BERTH_EXCLUDES(mutex_);

  std::unique_ptr<event::Loop> loop_;
  UniqueFd wake_;
  std::thread thread_;
  Mutex mutex_;
  std::vector<std::function<void()>> posted_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::ttrpc
