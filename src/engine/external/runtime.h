#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/engine.h"
#include "engine/external/exec_wait.h"
#include "engine/external/external_engine.h"

namespace berth::engine::external {

/// One call of the runtime's command line.
struct Command {
  std::vector<std::string> words;  ///< the command and what follows it
  std::string bundle;              ///< the working folder; its log is written there
  Stdio stdio;                     ///< what the container's process inherits
  std::vector<int> extra_fds;      ///< as descriptors 3, 4, ...
  std::chrono::milliseconds timeout{30'000};
};

/// The program: starts it, waits, and gives its failures names. One thread.
class Runtime final {
 public:
  explicit Runtime(Options options) : options_(std::move(options)) {}

  /// Success is exit code 0. Errors: what the runtime said (classify()), with the command before it; kUnavailable the
  /// program is not there; kTimeout, and it is killed.
  [[nodiscard]] Result<> run(const Command& command);
  /// Whether `exec` takes `--cgroup`; asked once.
  [[nodiscard]] bool exec_takes_cgroup();
  /// Of all its containers.
  [[nodiscard]] ExecWait& exec_wait() { return exec_wait_; }
  [[nodiscard]] const Options& options() const { return options_; }

 private:
  [[nodiscard]] Result<> run_once(const Command& command);
  /// Covers the v2 hierarchy beside v1's in our own mount namespace. False when there is none.
  [[nodiscard]] Result<bool> hide_unified() const;

  Options options_;
  ExecWait exec_wait_;
  enum class Answer : std::uint8_t { kUnknown, kYes, kNo };
  Answer takes_cgroup_ = Answer::kUnknown;
};

/// The short name of the program: "crun".
[[nodiscard]] std::string program_name(const std::string& path);

/// The socket that a runtime sends a terminal's master side to. In the bundle; its name is given relative to it, as
/// sun_path is shorter than a container's folder.
class ConsoleSocket final {
 public:
  [[nodiscard]] static Result<ConsoleSocket> listen(const std::string& bundle);
  ConsoleSocket(const ConsoleSocket&) = delete;
  ConsoleSocket& operator=(const ConsoleSocket&) = delete;
  ConsoleSocket(ConsoleSocket&&) = default;
  ConsoleSocket& operator=(ConsoleSocket&&) = delete;
  ~ConsoleSocket();

  static constexpr const char* kName = "console.sock";
  /// The terminal that was sent; the runtime has ended with success.
  [[nodiscard]] Result<UniqueFd> take() const;

 private:
  ConsoleSocket(std::string path, UniqueFd listener) : path_(std::move(path)), listener_(std::move(listener)) {}
  std::string path_;
  UniqueFd listener_;
};

}  // namespace berth::engine::external
