#pragma once
#include <cstdint>
#include <functional>
#include <map>

#include "event/loop.h"

namespace berth::shim {

/// Numbers the changes of the pod's containers and wakes the calls that wait for one. Numbers start at 1 and only rise.
class Changes final {
 public:
  explicit Changes(event::Loop& loop) : loop_(loop) {}
  ~Changes();
  Changes(const Changes&) = delete;
  Changes& operator=(const Changes&) = delete;
  Changes(Changes&&) = delete;
  Changes& operator=(Changes&&) = delete;

  /// A change that the client asked for itself: numbered, wakes nobody.
  [[nodiscard]] std::uint64_t next() { return ++seq_; }
  /// A change that came by itself: wakes, after the current round of the loop, everybody who waits.
  [[nodiscard]] std::uint64_t next_and_wake();
  [[nodiscard]] std::uint64_t now() const { return seq_; }

  /// Calls `ready` once: at once when something is newer than `after` (or `after` is of another life of the shim), else
  /// at the next wake or after `timeout_ms` (0: at once).
  void wait(std::uint64_t after, std::uint64_t timeout_ms, std::function<void()> ready);

 private:
  struct Waiter {
    std::function<void()> ready;
    event::TimerId timer;
  };
  void wake();

  event::Loop& loop_;
  std::uint64_t seq_ = 0;
  std::uint64_t next_waiter_ = 0;
  bool wake_posted_ = false;
  std::map<std::uint64_t, Waiter> waiters_;
};

}  // namespace berth::shim
