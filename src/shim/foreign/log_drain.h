#pragma once
#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "event/loop.h"

namespace berth::shim::foreign {

/// The FIFO that shims open as their log: until somebody reads it, they do not start, and once it is full, they stand
/// still. What comes is logged, a bounded part of each line.
class LogDrain final {
 public:
  /// Makes the FIFO at `path`. `name`: of the shim.
  [[nodiscard]] static Result<std::unique_ptr<LogDrain>> start(event::Loop& loop, const std::string& path,
                                                               std::string name);
  LogDrain(const LogDrain&) = delete;
  LogDrain& operator=(const LogDrain&) = delete;
  LogDrain(LogDrain&&) = delete;
  LogDrain& operator=(LogDrain&&) = delete;
  ~LogDrain();

 private:
  LogDrain(event::Loop& loop, std::string name) : loop_(loop), name_(std::move(name)) {}
  void read();

  event::Loop& loop_;
  std::string name_;
  UniqueFd fifo_;
  event::WatchId watch_{};
};

}  // namespace berth::shim::foreign
