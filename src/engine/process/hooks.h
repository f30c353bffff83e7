#pragma once
#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "spec/runtime.h"
#include "spec/state.h"

namespace berth::engine::process {

/// The state that hooks read on stdin.
[[nodiscard]] std::string hook_state(const std::string& id, const std::string& bundle, const spec::Spec& spec,
                                     spec::Status status, pid_t pid);

/// Runs the hooks one after another, each with `state` on stdin and its own environment alone. The first that fails
/// ends it: its name, exit code and what it said on stderr (cut) stand in the error. kTimeout after its timeout.
/// Source: runtime-spec config.md "POSIX-platform Hooks".
Result<> run_hooks(const std::vector<spec::Hook>& hooks, std::string_view name, const std::string& state);
/// The same, but a failure is only logged and the next one runs: poststart and poststop.
void run_hooks_logged(const std::vector<spec::Hook>& hooks, std::string_view name, const std::string& state);

}  // namespace berth::engine::process
