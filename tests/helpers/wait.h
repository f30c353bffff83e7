#pragma once
#include <chrono>
#include <thread>

namespace berth::test {

/// Looks again and again until `done()` is true; false at the deadline. For conditions that nothing announces.
template <class Done>
[[nodiscard]] bool wait_until(std::chrono::milliseconds timeout, Done done) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::chrono::milliseconds pause(2);
  while (!done()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(pause);
    if (pause.count() < 50) pause *= 2;
  }
  return true;
}

}  // namespace berth::test
