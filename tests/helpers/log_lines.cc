#include "log_lines.h"

#include "base/strings.h"
#include "os/file.h"

namespace berth::test {
namespace {

constexpr std::size_t kMaxLog = 512U << 20;
constexpr std::size_t kTimeBytes = 30;

}  // namespace

Result<std::vector<LogLine>> read_log(const std::string& path) {
  BERTH_ASSIGN(const auto text, os::read_file(path, kMaxLog), "log");
  std::vector<LogLine> lines;
  if (text.empty()) return lines;
  if (text.back() != '\n') return fail(Code::kCorrupt, path + ": its end is no end of a line");
  for (const auto line : split(std::string_view(text).substr(0, text.size() - 1), '\n')) {
    const auto at = [&line](std::size_t i) { return i < line.size() ? line[i] : '\0'; };
    const bool form = line.size() >= kTimeBytes + 10 && at(kTimeBytes - 1) == 'Z' && at(kTimeBytes) == ' ' &&
                      at(kTimeBytes + 7) == ' ' && (at(kTimeBytes + 8) == 'F' || at(kTimeBytes + 8) == 'P') &&
                      at(kTimeBytes + 9) == ' ';
    if (!form)
      return fail(Code::kCorrupt, path + ": \"" + std::string(line.substr(0, 200)) + "\" is no line of a CRI log");
    lines.push_back({std::string(line.substr(0, kTimeBytes)), std::string(line.substr(kTimeBytes + 1, 6)),
                     std::string(line.substr(kTimeBytes + 8, 1)), std::string(line.substr(kTimeBytes + 10))});
  }
  return lines;
}

std::string check_numbered(const std::vector<LogLine>& lines, bool ended) {
  std::size_t next = 1;
  bool end_seen = false;
  for (const auto& line : lines) {
    if (end_seen) return "something follows the end: " + line.text;
    if (line.tag != "F") return "a split line: " + line.text;
    if (line.text.starts_with("end ")) {
      if (line.text != "end " + std::to_string(next - 1))
        return "\"" + line.text + "\" after line " + std::to_string(next - 1);
      end_seen = true;
    } else if (line.text != "line " + std::to_string(next++)) {
      return "\"" + line.text + "\" where line " + std::to_string(next - 1) + " was due";
    }
  }
  if (ended && !end_seen) return "no end after line " + std::to_string(next - 1);
  return "";
}

}  // namespace berth::test
