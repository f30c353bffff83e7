#pragma once
#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "base/result.h"
#include "os/spawn.h"

namespace berth::test {

/// A server that a test runs beside itself: its output goes to a file, and it is killed when the object goes.
class Process final {
 public:
  Process() = default;
  /// Starts `argv` with stdout and stderr appended to `log_path`.
  static Result<Process> start(std::vector<std::string> argv, const std::string& log_path,
                               std::vector<std::string> more_env = {});
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process();

  /// 0 when none runs.
  [[nodiscard]] pid_t pid() const { return child_.pidfd.valid() ? child_.pid : 0; }
  /// False once it has ended.
  [[nodiscard]] bool alive() const;
  Result<> signal(int number);
  /// Waits for the end and reaps: exit code, or 128 + signal. kTimeout.
  Result<int> wait(std::chrono::milliseconds timeout);
  /// SIGTERM, then SIGKILL after `grace`.
  Result<int> stop(std::chrono::milliseconds grace);
  /// SIGKILL and reap.
  void kill();

 private:
  os::Child child_;
};

/// SIGSTOP to a process that lives; returns when the last of its threads has stopped: they do one by one. kTimeout.
Result<> stop_threads(pid_t pid);

struct Ran {
  int code = 0;
  std::string out;
  std::string err;
};
/// Runs a program to its end with the test's environment and `more_env`.
Result<Ran> run_program(std::vector<std::string> argv, std::chrono::milliseconds timeout = std::chrono::seconds(60),
                        std::vector<std::string> more_env = {});

}  // namespace berth::test
