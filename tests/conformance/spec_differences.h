#pragma once
#include <span>
#include <string_view>
#include <vector>

namespace berth::test {

/// A rule that a runtime does not keep. Its test must fail for that runtime, every failure must hold the text of one of
/// its rows, and each row's must be seen: a row that is no longer true fails.
struct Difference {
  std::string_view runtime;
  std::string_view rule;   ///< suite and test, "Lifecycle.StateOfAnUnknownIsAnError"
  std::string_view shows;  ///< part of the failure's text
  std::string_view why;
};

[[nodiscard]] std::vector<Difference> differences(std::string_view runtime, std::string_view rule);
[[nodiscard]] std::span<const Difference> all_differences();

}  // namespace berth::test
