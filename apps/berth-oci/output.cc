#include "output.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/strings.h"
#include "os/file.h"
#include "spec/json_text.h"

namespace berth::oci {

namespace {
constexpr std::size_t kCollectedLimit = 1U << 20;

/// "2026-11-24T06:03:36Z", as logrus writes it.
std::string time_text() {
  return format_rfc3339(wall_now()).substr(0, 19) + "Z";
}
}  // namespace

Result<> Reporter::open(const std::string& path, const std::string& format, bool debug) {
  if (format != "text" && format != "json") return fail(Code::kInvalid, "invalid log-format: " + format);
  json_ = format == "json";
  if (!path.empty()) {
    BERTH_ASSIGN(UniqueFd fd, os::open_file(path, O_WRONLY | O_CREAT | O_APPEND, 0644), "--log");
    log_fd_ = fd.release();  // for the life of the program
    to_file_ = true;
  }
  if (json_) collected_fd_ = ::memfd_create("log", MFD_CLOEXEC);
  set_log_fd(json_ && collected_fd_ >= 0 ? collected_fd_ : log_fd_);
  // Without a log of our own there is standard error alone, and that is the container's: what was tolerated (a limit
  // that could not be raised) must not turn up in its output.
  set_log_level(debug ? LogLevel::kDebug : to_file_ ? LogLevel::kWarn : LogLevel::kError);
  return {};
}

void Reporter::json_line(std::string_view level, std::string_view message) const {
  spec::JsonWriter line;
  line.begin_object()
      .key("level")
      .string(level)
      .key("msg")
      .string(message)
      .key("time")
      .string(time_text())
      .end_object();
  ignore(os::write_all(log_fd_, line.take() + "\n"), "a log that cannot be written");
}

void Reporter::error(std::string_view message) {
  flush();
  if (json_) {
    json_line("error", message);
  } else {
    const std::string line = "time=\"" + time_text() + "\" level=error msg=" + spec::quote(message) + "\n";
    ignore(os::write_all(log_fd_, line), "a log that cannot be written");
  }
  if (to_file_) ignore(os::write_all(2, std::string(message) + "\n"), "nobody reads");
}

void Reporter::flush() {
  if (collected_fd_ < 0 || ::lseek(collected_fd_, 0, SEEK_SET) != 0) return;
  const auto text = os::read_all(collected_fd_, kCollectedLimit);
  for (const auto line : split(text ? *text : std::string(), '\n')) {
    if (!line.empty()) json_line(line.find("level=error") != std::string_view::npos ? "error" : "warning", line);
  }
  [[maybe_unused]] const int emptied = ::ftruncate(collected_fd_, 0);
  ::lseek(collected_fd_, 0, SEEK_SET);
}

void print(std::string_view text) {
  ignore(os::write_all(1, text), "nobody reads");
}

std::string pretty_json(std::string_view compact, std::string_view indent) {
  std::string out;
  std::size_t depth = 0;
  bool quoted = false;
  const auto new_line = [&] {
    out.push_back('\n');
    for (std::size_t i = 0; i < depth; ++i) out.append(indent);
  };
  for (std::size_t i = 0; i < compact.size(); ++i) {
    const char c = compact[i];
    if (quoted) {
      out.push_back(c);
      if (c == '\\' && i + 1 < compact.size()) {
        out.push_back(compact[++i]);
      } else if (c == '"') {
        quoted = false;
      }
      continue;
    }
    const bool opens = c == '{' || c == '[';
    const bool closes = c == '}' || c == ']';
    if (closes && i > 0 && compact[i - 1] != '{' && compact[i - 1] != '[') {
      --depth;
      new_line();
    }
    out.push_back(c);
    if (c == '"') quoted = true;
    if (c == ':') out.push_back(' ');
    if (c == ',') new_line();
    if (opens && i + 1 < compact.size() && compact[i + 1] != '}' && compact[i + 1] != ']') {
      ++depth;
      new_line();
    }
  }
  return out;
}

}  // namespace berth::oci
