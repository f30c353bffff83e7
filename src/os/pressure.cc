#include "os/pressure.h"

#include "base/strings.h"

namespace berth::os {

namespace {

/// "12.34", as the kernel prints it: two decimals.
std::optional<double> percent(std::string_view text) {
  const auto point = text.find('.');
  if (point == std::string_view::npos || text.size() != point + 3) return std::nullopt;
  const auto whole = parse_number<std::uint32_t>(text.substr(0, point));
  const auto hundredths = parse_number<std::uint32_t>(text.substr(point + 1));
  if (!whole || !hundredths) return std::nullopt;
  return *whole >= 100 ? 100.0 : *whole + *hundredths / 100.0;
}

/// "avg10=0.12 avg60=3.40 avg300=0.00 total=1234"
std::optional<PressureLine> parse_line(std::string_view text) {
  constexpr unsigned kAll = 4;
  PressureLine line;
  unsigned found = 0;
  for (const auto word : split(text, ' ')) {
    const auto equals = word.find('=');
    if (equals == std::string_view::npos) continue;
    const auto name = word.substr(0, equals);
    const auto value = word.substr(equals + 1);
    if (name == "total") {
      const auto total = parse_number<std::uint64_t>(value);
      if (!total) return std::nullopt;
      line.total_us = *total;
      ++found;
      continue;
    }
    double* const target = name == "avg10"    ? &line.avg10
                           : name == "avg60"  ? &line.avg60
                           : name == "avg300" ? &line.avg300
                                              : nullptr;
    if (target == nullptr) continue;
    const auto average = percent(value);
    if (!average) return std::nullopt;
    *target = *average;
    ++found;
  }
  if (found != kAll) return std::nullopt;
  return line;
}

}  // namespace

std::optional<Pressure> parse_pressure(std::string_view text) {
  if (text.size() > kMaxPressureText) return std::nullopt;
  Pressure pressure;
  bool some = false;
  for (const auto line : split(text, '\n')) {
    const auto space = line.find(' ');
    if (space == std::string_view::npos) continue;
    const auto name = line.substr(0, space);
    if (name != "some" && name != "full") continue;
    const auto parsed = parse_line(line.substr(space + 1));
    if (!parsed) return std::nullopt;
    some = some || name == "some";
    (name == "some" ? pressure.some : pressure.full) = *parsed;
  }
  if (!some) return std::nullopt;
  return pressure;
}

}  // namespace berth::os
