#pragma once
#include <sys/types.h>

#include <functional>
#include <map>

#include "base/result.h"
#include "event/loop.h"

namespace berth::shim {

/// The one place where the shim collects dead children: those it waits for, and orphans of its containers that the
/// kernel gave it as their subreaper. There must be no second one: two would steal each other's exit codes, and a
/// subreaper has to collect children it has never heard of anyway. A pid stays the process's own until it was collected
/// here, so a number is as good as a pidfd.
class Reaper final {
 public:
  /// `code`: the exit code, or 128 + signal.
  using Callback = std::function<void(int code)>;

  explicit Reaper(event::Loop& loop) : loop_(loop) {}
  ~Reaper() { loop_.remove(watch_); }
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;
  Reaper(Reaper&&) = delete;
  Reaper& operator=(Reaper&&) = delete;

  /// Becomes the subreaper and blocks SIGCHLD for signalfd; children need their mask reset. Errors: by errno.
  [[nodiscard]] Result<> start();
  /// Calls `callback` once, from the loop, when the child `pid` has ended. Call it before the loop runs again after the
  /// child was made.
  void watch(pid_t pid, Callback callback) { callbacks_[pid] = std::move(callback); }
  /// The end of `pid` interests nobody any more; it is collected all the same.
  void forget(pid_t pid) { callbacks_.erase(pid); }
  /// The end of a process that is no child of ours, told by who has collected it. Where it became ours after all, its
  /// own code counts.
  void ended(pid_t pid, int code);
  /// Collects everybody who has ended by now.
  void reap();

 private:
  event::Loop& loop_;
  event::WatchId watch_ = event::kNoWatch;
  std::map<pid_t, Callback> callbacks_;
};

}  // namespace berth::shim
