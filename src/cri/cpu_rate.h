#pragma once
#include <cstdint>

namespace berth::cri {

/// CPU use over a recent window, made of readings of a counter that only grows.
class CpuRate final {
 public:
  void add(std::int64_t time_ns, std::uint64_t used_ns) {
    const auto passed = time_ns - base_time_ns_;
    if (base_time_ns_ != 0) {
      if (passed < kMinRateNs) return;
      const auto used = used_ns > base_used_ns_ ? used_ns - base_used_ns_ : 0;
      nano_cores_ = static_cast<std::uint64_t>(static_cast<double>(used) * 1e9 / static_cast<double>(passed));
      known_ = true;
    }
    base_time_ns_ = time_ns;
    base_used_ns_ = used_ns;
  }
  [[nodiscard]] bool known() const { return known_; }
  [[nodiscard]] std::uint64_t nano_cores() const { return nano_cores_; }

 private:
  // Samples closer to each other say little about a rate.
  static constexpr std::int64_t kMinRateNs = 100'000'000;

  std::int64_t base_time_ns_ = 0;  ///< an earlier sample, far enough back to make a rate of
  std::uint64_t base_used_ns_ = 0;
  std::uint64_t nano_cores_ = 0;
  bool known_ = false;
};

}  // namespace berth::cri
