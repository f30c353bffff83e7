#pragma once
#include <span>
#include <string>
#include <string_view>

#include "args.h"
#include "base/result.h"
#include "state_store.h"

namespace berth::oci {

/// What every command gets.
struct Context {
  StateStore store;
  engine::process::ProcessEngine& engine;
  Args args;
  bool rootless = false;      ///< see rootless_of()
  bool systemd_user = false;  ///< whose systemd --systemd-cgroup means
  std::string criu = "criu";  ///< of --criu
};

struct Command {
  std::string_view name;
  std::string_view operands;  ///< "<container-id>"
  std::string_view summary;
  std::span<const FlagSpec> flags;
  std::size_t min_operands = 0;
  std::size_t max_operands = 0;
  /// Enters containers: the own executable is protected before it runs.
  bool enters = false;
  Result<int> (*run)(Context& context) = nullptr;
};

[[nodiscard]] std::span<const Command> commands();
[[nodiscard]] const Command* find_command(std::string_view name);
/// Flags before the command.
[[nodiscard]] std::span<const FlagSpec> global_flags();

/// Help texts (help.cc).
[[nodiscard]] std::string help_text();
[[nodiscard]] std::string help_text(const Command& command);
[[nodiscard]] std::string version_text();

/// The whole program after main's first steps: the exit code.
int run_program(int argc, char** argv, char** envp);

// One function per command; the exit code, or the error to report.
Result<int> run_create(Context& context);
Result<int> run_run(Context& context);
Result<int> run_start(Context& context);
Result<int> run_state(Context& context);
Result<int> run_kill(Context& context);
Result<int> run_delete(Context& context);
Result<int> run_exec(Context& context);
Result<int> run_list(Context& context);
Result<int> run_ps(Context& context);
Result<int> run_spec(Context& context);
Result<int> run_features(Context& context);
Result<int> run_pause(Context& context);
Result<int> run_resume(Context& context);
Result<int> run_update(Context& context);
Result<int> run_events(Context& context);
Result<int> run_checkpoint(Context& context);
Result<int> run_restore(Context& context);

}  // namespace berth::oci
