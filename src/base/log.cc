#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "base/clock.h"

namespace berth {
namespace {

std::atomic<LogLevel> g_level{LogLevel::kInfo};
std::atomic<int> g_fd{2};

std::string_view level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warn";
    case LogLevel::kError:
      return "error";
  }
  return "info";
}

bool needs_quotes(std::string_view value) {
  if (value.empty()) return true;
  for (const char c : value) {
    if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f) return true;
  }
  return false;
}

void append_value(std::string& line, std::string_view value) {
  if (!needs_quotes(value)) {
    line.append(value);
    return;
  }
  line.push_back('"');
  for (const char c : value) {
    if (c == '"' || c == '\\') {
      line.push_back('\\');
      line.push_back(c);
    } else if (c == '\n') {
      line.append("\\n");
    } else if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) {
      line.push_back('?');  // control bytes of foreign text do not reach a terminal
    } else {
      line.push_back(c);
    }
  }
  line.push_back('"');
}

}  // namespace

void set_log_level(LogLevel level) {
  g_level = level;
}
LogLevel log_level() {
  return g_level;
}
void set_log_fd(int fd) {
  g_fd = fd;
}

void log_line(LogLevel level, std::string_view message, LogFields fields) {
  if (level < g_level.load(std::memory_order_relaxed)) return;
  const int saved = errno;
  std::string line = "time=" + format_rfc3339(wall_now()) + " level=";
  line.append(level_name(level)).append(" msg=");
  append_value(line, message);
  for (const LogField& field : fields) {
    line.append(" ").append(field.key).append("=");
    append_value(line, field.value);
  }
  line.push_back('\n');
  [[maybe_unused]] const auto written = ::write(g_fd.load(), line.data(), line.size());
  errno = saved;
}

}  // namespace berth
