#pragma once
#include <string>
#include <string_view>

#include "base/result.h"

namespace berth::oci {

/// Where and how the program says what went wrong, in runc's forms: text lines on stderr, or --log FILE with
/// --log-format text or json (then stderr has the bare message too).
class Reporter final {
 public:
  /// Opens the log. Warnings of the libraries go there as well.
  Result<> open(const std::string& path, const std::string& format, bool debug);
  void error(std::string_view message);
  /// Hands on what the libraries said meanwhile. At the end of the program.
  void flush();

 private:
  void json_line(std::string_view level, std::string_view message) const;

  int log_fd_ = 2;
  int collected_fd_ = -1;  ///< a memory file with the libraries' lines, while the log is JSON
  bool json_ = false;
  bool to_file_ = false;
};

/// All of `text` on stdout.
void print(std::string_view text);
/// Compact JSON with line breaks and an indent of `indent`.
[[nodiscard]] std::string pretty_json(std::string_view compact, std::string_view indent = "  ");

}  // namespace berth::oci
