#pragma once
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::os {

/// A descriptor that the child gets under number `child_fd` (without CLOEXEC there). `fd` is borrowed.
struct FdMapping {
  int fd = -1;
  int child_fd = -1;
};

struct SpawnOptions {
  std::vector<std::string> argv;  ///< argv[0] is the program: a path with '/' is used as it is, else PATH is searched
  std::string program{};          ///< the program where argv[0] is only what it is told to be called
  std::vector<std::string> env;   ///< the whole environment, "NAME=value"
  std::string cwd;                ///< empty: the caller's
  std::vector<FdMapping> fds;     ///< 0, 1 and 2 are /dev/null unless mapped; nothing else is inherited
  bool new_process_group = false;
  bool new_session = false;
};

struct Child {
  pid_t pid = -1;
  UniqueFd pidfd;
};

/// Starts a program by posix_spawn: safe in threaded processes. The child has default signal handlers, an empty signal
/// mask and no other descriptor of ours. Errors carry the exec's errno and name the program. The caller reaps by
/// wait(). Source: posix_spawn(3), pidfd_open(2).
Result<Child> spawn(const SpawnOptions& options);

/// Waits for `child`; the exit code, or 128 + signal. Reaps it.
Result<int> wait_exit(const Child& child);

/// Kills all of the child's process group, which it must have (SpawnOptions). Before it is reaped: its number may be
/// somebody else's afterwards. Source: kill(2).
void kill_group(const Child& child);

struct RunOptions {
  SpawnOptions spawn;
  std::string input;                     ///< written to the child's stdin
  std::size_t output_limit = 1U << 20;   ///< for each of stdout and stderr; more is kExhausted and ends the child
  std::chrono::milliseconds timeout{0};  ///< 0: none; then the child's process group is killed: kTimeout
  std::stop_token stop;                  ///< the same on request: kCancelled (looked at ten times a second)
};
struct RunOutput {
  int exit_code = 0;
  std::string out;
  std::string err;
};
/// The program that `name` means: with '/' itself, else the first of that name in PATH (absent: `otherwise`). Nothing
/// where it is no program that we may execute. Call it with one thread: it reads the environment.
[[nodiscard]] std::optional<std::string> find_program(const std::string& name, std::string_view otherwise = {});

/// Runs a program to its end and collects what it says. Never waits for grandchildren that keep the pipes open: reading
/// ends when the child is gone. The child has its own process group, which is killed then. The program must ignore
/// SIGPIPE.
Result<RunOutput> run(RunOptions options);

}  // namespace berth::os
