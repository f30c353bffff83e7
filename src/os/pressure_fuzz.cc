// The text of a cgroup's pressure file: whatever it holds, averages are percents.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "os/pressure.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parsed = berth::os::parse_pressure({reinterpret_cast<const char*>(data), size});
  if (!parsed) return 0;
  for (const auto* line : {&parsed->some, &parsed->full}) {
    for (const double average : {line->avg10, line->avg60, line->avg300}) {
      if (!(average >= 0 && average <= 100)) std::abort();
    }
  }
  return 0;
}
