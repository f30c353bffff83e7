#include "base/clock.h"

namespace berth {

WallTime wall_now() {
  return std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
}

std::int64_t wall_now_ns() {
  return wall_now().time_since_epoch().count();
}

namespace {
void put_digits(char*& p, std::int64_t value, int digits) {
  for (int i = digits - 1; i >= 0; --i) {
    p[i] = static_cast<char>('0' + value % 10);
    value /= 10;
  }
  p += digits;
}
}  // namespace

void format_rfc3339_into(WallTime time, char* out) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date{day};
  const std::int64_t in_day = (time - day).count();
  const std::int64_t seconds = in_day / 1'000'000'000;
  put_digits(out, static_cast<int>(date.year()), 4);
  *out++ = '-';
  put_digits(out, static_cast<unsigned>(date.month()), 2);
  *out++ = '-';
  put_digits(out, static_cast<unsigned>(date.day()), 2);
  *out++ = 'T';
  put_digits(out, seconds / 3600, 2);
  *out++ = ':';
  put_digits(out, seconds / 60 % 60, 2);
  *out++ = ':';
  put_digits(out, seconds % 60, 2);
  *out++ = '.';
  put_digits(out, in_day % 1'000'000'000, 9);
  *out++ = 'Z';
}

std::string format_rfc3339(WallTime time) {
  std::string text(30, '\0');
  format_rfc3339_into(time, text.data());
  return text;
}

}  // namespace berth
