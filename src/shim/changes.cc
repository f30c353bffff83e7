#include "shim/changes.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace berth::shim {
namespace {

constexpr std::uint64_t kMaxTimeoutMs = 24ULL * 3600 * 1000;

}  // namespace

Changes::~Changes() {
  for (const auto& [number, waiter] : waiters_) loop_.cancel(waiter.timer);
}

std::uint64_t Changes::next_and_wake() {
  if (!wake_posted_ && !waiters_.empty()) {
    wake_posted_ = true;
    // Several containers that end together make one answer.
    loop_.post([this] { wake(); });
  }
  return ++seq_;
}

void Changes::wake() {
  wake_posted_ = false;
  auto waiters = std::exchange(waiters_, {});
  for (auto& [number, waiter] : waiters) {
    loop_.cancel(waiter.timer);
    waiter.ready();
  }
}

void Changes::wait(std::uint64_t after, std::uint64_t timeout_ms, std::function<void()> ready) {
  if (after != seq_ || timeout_ms == 0) return ready();
  const std::uint64_t number = ++next_waiter_;
  const auto timer = loop_.add_timer(std::chrono::milliseconds(std::min(timeout_ms, kMaxTimeoutMs)), [this, number] {
    const auto found = waiters_.find(number);
    if (found == waiters_.end()) return;
    const std::function<void()> callback = std::move(found->second.ready);
    waiters_.erase(found);
    callback();
  });
  waiters_.emplace(number, Waiter{std::move(ready), timer});
}

}  // namespace berth::shim
