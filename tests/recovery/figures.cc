#include "figures.h"

#include <algorithm>
#include <cstdlib>

#include "base/strings.h"
#include "leak_check.h"
#include "os/file.h"
#include "test_host.h"

namespace berth::test {
namespace {

/// The number after `name` in lines of "Name:   123 kB".
std::uint64_t line_of(const std::string& text, std::string_view name) {
  for (const auto line : split(text, '\n')) {
    if (!line.starts_with(name)) continue;
    const auto value = trim(line.substr(name.size()));
    return parse_number<std::uint64_t>(value.substr(0, value.find(' '))).value_or(0);
  }
  return 0;
}

}  // namespace

unsigned setting(const char* name, unsigned fallback) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets it
  return text == nullptr ? fallback : parse_number<unsigned>(text).value_or(fallback);
}

Figures figures_of(pid_t pid) {
  const std::string folder = "/proc/" + std::to_string(pid);
  const auto rollup = os::read_file(folder + "/smaps_rollup", 8192).value_or("");
  const auto fds = os::list_dir(folder + "/fd");
  return {line_of(rollup, "Rss:"), line_of(rollup, "Anonymous:"), fds ? fds->size() : 0};
}

std::uint64_t median(std::vector<std::uint64_t> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace berth::test
