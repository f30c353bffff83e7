#pragma once
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace berth::test {

struct IsolationOptions {
  /// A mount namespace of its own, a recursive slave of the machine's. Without it, what is started mounts where PID 1
  /// looks.
  bool private_mounts = true;
};

/// Runs `body` in a new process inside a network namespace of its own (loopback up). The process is a copy of this
/// program, started again with the same arguments; the first one supervises it: as a subreaper it inherits every
/// orphan, and when the copy has ended, however that came, it kills whatever is left. To be called first in main(),
/// before any thread. Answers the exit code: 77 when not root (1 if BERTH_REQUIRE asks for "root").
int run_isolated(int argc, char** argv, const IsolationOptions& options, const std::function<int()>& body);

/// Kills and reaps every descendant of this process, orphans included when it is a subreaper. False when some stay.
bool end_descendants();

/// The environment of this process as os::SpawnOptions wants it.
[[nodiscard]] std::vector<std::string> own_environment();

}  // namespace berth::test
