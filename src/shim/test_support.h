#pragma once
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "base/strings.h"
#include "os/file.h"

// For this library's tests only.
namespace berth::shim::test {

/// A folder of the test's own, removed at the end.
class TempFolder final {
 public:
  TempFolder() {
    std::string pattern = "/tmp/berth-test-XXXXXX";
    path_ = ::mkdtemp(pattern.data()) != nullptr ? pattern : std::string();
  }
  ~TempFolder() {
    if (!path_.empty()) ignore(os::remove_tree(path_), "a test folder");
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  TempFolder(TempFolder&&) = delete;
  TempFolder& operator=(TempFolder&&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

struct LogEntry {
  std::string time;
  std::string stream;
  std::string tag;
  std::string text;
  bool operator==(const LogEntry&) const = default;
};

/// The entries of a CRI log; one that does not have the format gives an entry with the tag "BROKEN".
inline std::vector<LogEntry> read_log(const std::string& path) {
  std::vector<LogEntry> entries;
  const auto text = os::read_file(path, 256U << 20);
  if (!text) return entries;
  std::vector<std::string_view> lines = split(*text, '\n');
  if (!lines.back().empty()) entries.push_back({{}, {}, "BROKEN", std::string(lines.back())});
  lines.pop_back();
  std::vector<LogEntry> whole;
  for (const std::string_view line : lines) {
    const bool good = line.size() >= 40 && line[30] == ' ' && line[37] == ' ' && line[39] == ' ' && line[29] == 'Z';
    if (good) {
      whole.push_back({std::string(line.substr(0, 30)), std::string(line.substr(31, 6)),
                       std::string(line.substr(38, 1)), std::string(line.substr(40))});
    } else {
      whole.push_back({{}, {}, "BROKEN", std::string(line)});
    }
  }
  whole.insert(whole.end(), entries.begin(), entries.end());
  return whole;
}

/// "<stream> <tag> <text>" of each entry.
inline std::vector<std::string> plain_log(const std::string& path) {
  std::vector<std::string> result;
  for (const LogEntry& entry : read_log(path)) result.push_back(entry.stream + " " + entry.tag + " " + entry.text);
  return result;
}

}  // namespace berth::shim::test
