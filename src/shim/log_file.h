#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::shim {

/// Bytes before the text of a log entry: "2026-11-24T05:24:01.123456789Z stdout F ".
inline constexpr std::size_t kLogHeaderBytes = 40;

/// The log of one container, in the CRI format. Holds whole entries only: one that does not fit on the disk is taken
/// back and counted, and writing goes on with the next, so that a full disk never stops a container. Not thread-safe.
/// Source: kubernetes CRI logging, pkg/kubelet/kuberuntime/logs.
class LogFile final {
 public:
  /// Opens or makes `path` (absolute) for appending, mode 0640. Errors: by errno, naming the path.
  [[nodiscard]] static Result<std::unique_ptr<LogFile>> open(std::string path);

  /// Opens the path anew, after a rotation has renamed the file. On error the old file stays in use.
  [[nodiscard]] Result<> reopen();

  /// Appends `entries`: each is a header of kLogHeaderBytes, text without newline, a newline. Blocks on disk.
  void append(std::string_view entries);

  /// Output lost so far, in bytes as the container wrote them.
  [[nodiscard]] std::uint64_t bytes_dropped() const { return bytes_dropped_; }
  /// Counts output that was lost before it became an entry.
  void add_dropped(std::uint64_t bytes) { bytes_dropped_ += bytes; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  LogFile(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  void take_back(std::size_t torn_bytes);

  std::string path_;
  UniqueFd fd_;
  std::uint64_t bytes_dropped_ = 0;
  bool torn_ = false;     // the file ends inside an entry that could not be taken back
  bool failing_ = false;  // logged once, until a write succeeds again
};

}  // namespace berth::shim
