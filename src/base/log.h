#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

namespace berth {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarn, kError };

/// One key=value pair of a log line. Keys are lower case words; values are quoted when they need it.
struct LogField {
  std::string_view key;
  std::string value;
  LogField(std::string_view k, std::string v) : key(k), value(std::move(v)) {}
  LogField(std::string_view k, std::string_view v) : key(k), value(v) {}
  LogField(std::string_view k, const char* v) : key(k), value(v) {}
  template <class N>
    requires std::is_arithmetic_v<N>
  LogField(std::string_view k, N v) : key(k), value(std::to_string(v)) {}
};
using LogFields = std::initializer_list<LogField>;

/// Lines below `level` are dropped. Default kInfo. Thread-safe.
void set_log_level(LogLevel level);
[[nodiscard]] LogLevel log_level();
/// Where lines go: a descriptor that the caller keeps open (default 2). Thread-safe.
void set_log_fd(int fd);

/// Writes one line, `time=... level=... msg="..." key=value ...`, in one write(2). Never fails, never blocks on a lock.
void log_line(LogLevel level, std::string_view message, LogFields fields = {});
inline void log_debug(std::string_view message, LogFields fields = {}) {
  log_line(LogLevel::kDebug, message, fields);
}
inline void log_info(std::string_view message, LogFields fields = {}) {
  log_line(LogLevel::kInfo, message, fields);
}
inline void log_warn(std::string_view message, LogFields fields = {}) {
  log_line(LogLevel::kWarn, message, fields);
}
inline void log_error(std::string_view message, LogFields fields = {}) {
  log_line(LogLevel::kError, message, fields);
}

}  // namespace berth
