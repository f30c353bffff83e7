#pragma once
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstring>

namespace berth::test {

/// What the steady writer writes: line N (from 0) is its number in twelve digits, a blank, letters that depend on N,
/// and a newline; all lines are of the same length.
inline constexpr std::size_t kSteadyLine = 1000;
inline constexpr std::size_t kSteadyNumber = 13;

/// Fills `line`, of kSteadyLine bytes.
inline void steady_line(unsigned long long number, char* line) {
  std::array<char, 32> digits{};
  std::snprintf(digits.data(), digits.size(), "%012llu ", number);
  std::memcpy(line, digits.data(), kSteadyNumber);
  static const std::array<char, 26 + kSteadyLine> letters = [] {
    std::array<char, 26 + kSteadyLine> all{};
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<char>('a' + i % 26);
    return all;
  }();
  std::memcpy(line + kSteadyNumber, letters.data() + number % 26, kSteadyLine - kSteadyNumber - 1);
  line[kSteadyLine - 1] = '\n';
}

}  // namespace berth::test
