#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

namespace berth::os {

/// One line of a pressure file: how long tasks stood still for want of something. Source: kernel accounting/psi.rst.
struct PressureLine {
  std::uint64_t total_us = 0;  ///< since the cgroup was made
  double avg10 = 0;            ///< percent of the last 10 s; 60 s and 300 s below
  double avg60 = 0;
  double avg300 = 0;
  bool operator==(const PressureLine&) const = default;
};
struct Pressure {
  PressureLine some;  ///< at least one task stood still
  PressureLine full;  ///< all that would run did; kernels before 5.13 have no such line for the CPU: all 0
  bool operator==(const Pressure&) const = default;
};

/// The text of cpu.pressure, memory.pressure or io.pressure. Nothing when it has no whole line "some"; lines and values
/// of other names are passed over. Averages are cut to 0..100, totals that do not fit are refused with their line.
/// Takes at most kMaxPressureText bytes; more is no such file.
[[nodiscard]] std::optional<Pressure> parse_pressure(std::string_view text);
inline constexpr std::size_t kMaxPressureText = 4096;

}  // namespace berth::os
