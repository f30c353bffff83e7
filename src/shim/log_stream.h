#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "shim/log_file.h"
#include "shim/scratch.h"
#include "shim/sink.h"

namespace berth::shim {

enum class StreamName : std::uint8_t { kStdout, kStderr };

/// Turns one output stream of a container into log entries: "<time> <stream> F <line>". A line longer than the limit
/// becomes entries of exactly the limit tagged P, then one with the rest tagged F. An end without a newline, as
/// containerd has it, is tagged P. Times rise strictly within a stream (some collectors drop equal entries of one
/// time). Each write() makes one write(2) of the log, more only beyond the size of the scratch buffer.
class LogStream final : public Sink {
 public:
  static constexpr std::size_t kMaxLineLimit = 1U << 20;
  /// Size that the scratch's formatting buffer must have for lines of `max_line_bytes`.
  [[nodiscard]] static std::size_t out_bytes(std::size_t max_line_bytes);

  /// `file` and `scratch` outlive this. 1 <= max_line_bytes <= kMaxLineLimit.
  LogStream(LogFile& file, StreamName name, std::size_t max_line_bytes, Scratch& scratch);

  void write(std::string_view bytes) override;
  /// Writes an unfinished line, tagged P. What follows later continues it, as readers of the format expect.
  void flush() override;

 private:
  void add_entry(char tag, std::string_view more);
  void send();
  void stamp(char* out);

  LogFile& file_;
  Scratch& scratch_;
  std::size_t max_line_;
  StreamName name_;
  std::string pending_;  // of an unfinished line, at most max_line_ bytes; no memory when empty
  std::span<char> out_;
  std::size_t out_used_ = 0;
  std::int64_t last_ns_ = 0;
  std::int64_t stamp_second_ = -1;
  std::array<char, 30> stamp_{};
};

}  // namespace berth::shim
