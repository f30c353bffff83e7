#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace berth::test {

class TestHost;

/// A number from the environment; `fallback` where the variable is not set or no number.
[[nodiscard]] unsigned setting(const char* name, unsigned fallback);

/// What a process holds. Zeros for one that is gone.
struct Figures {
  std::uint64_t rss_kib = 0;
  std::uint64_t anonymous_kib = 0;  ///< what it allocated: unlike the rest no matter of who else uses its files
  std::uint64_t fds = 0;
};
[[nodiscard]] Figures figures_of(pid_t pid);

/// The middle of the values; 0 when there are none.
[[nodiscard]] std::uint64_t median(std::vector<std::uint64_t> values);

}  // namespace berth::test
