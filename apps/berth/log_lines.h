#pragma once
#include <string>
#include <string_view>

namespace berth::cli {

/// Takes the CRI log format ("<time> stdout|stderr P|F <text>\n") in pieces of any size and gives back the container's
/// output: parts of a split line are joined, each stream goes to its own descriptor.
class LogPrinter {
 public:
  explicit LogPrinter(bool timestamps) : timestamps_(timestamps) {}
  /// Writes what is complete to stdout and stderr. A line that is not in the format is shown as it is.
  void feed(std::string_view data);

 private:
  void line(std::string_view text);

  bool timestamps_;
  bool continues_[2] = {false, false};  // the stream's last part was partial
  std::string rest_;
};

}  // namespace berth::cli
