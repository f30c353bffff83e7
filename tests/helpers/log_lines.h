#pragma once
#include <string>
#include <vector>

#include "base/result.h"

namespace berth::test {

/// A line of the CRI log format.
struct LogLine {
  std::string time;
  std::string stream;
  std::string tag;
  std::string text;
};

/// All lines of a log. kCorrupt names the first that is not in the format; the file must end with a newline or be
/// empty.
Result<std::vector<LogLine>> read_log(const std::string& path);

/// What is wrong with the whole output of a log_writer: each line once, in order, nothing missing, "end N" last. ""
/// when all is well. `ended`: whether the writer must have had its end.
[[nodiscard]] std::string check_numbered(const std::vector<LogLine>& lines, bool ended = true);

}  // namespace berth::test
