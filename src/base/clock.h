#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace berth {

using WallTime = std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>;
using SteadyTime = std::chrono::steady_clock::time_point;

[[nodiscard]] WallTime wall_now();
/// Nanoseconds since the Unix epoch, the unit of CRI timestamps.
[[nodiscard]] std::int64_t wall_now_ns();
/// "2026-11-24T05:24:01.123456789Z": RFC 3339, UTC, always nine digits, always 30 bytes: the CRI log format's time.
[[nodiscard]] std::string format_rfc3339(WallTime time);
/// The same into `out` (30 bytes, no NUL): for the log writer's hot path.
void format_rfc3339_into(WallTime time, char* out);

}  // namespace berth
