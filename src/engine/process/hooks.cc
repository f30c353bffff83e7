#include "engine/process/hooks.h"

#include "base/log.h"
#include "base/strings.h"
#include "os/spawn.h"

namespace berth::engine::process {

namespace {

constexpr std::size_t kOutputLimit = 64U << 10;
constexpr std::size_t kShownOutput = 512;

Result<> run_hook(const spec::Hook& hook, const std::string& state) {
  os::RunOptions options;
  options.spawn.argv = hook.args;
  if (options.spawn.argv.empty()) options.spawn.argv.push_back(hook.path);
  options.spawn.program = hook.path;
  options.spawn.env = hook.env;
  options.input = state;
  options.output_limit = kOutputLimit;
  if (hook.timeout) options.timeout = std::chrono::seconds(*hook.timeout);
  BERTH_ASSIGN(const os::RunOutput output, os::run(std::move(options)), hook.path);
  if (output.exit_code == 0) return {};
  std::string said(trim(output.err.empty() ? output.out : output.err));
  if (said.size() > kShownOutput) said.resize(kShownOutput);
  return fail(Code::kInternal,
              hook.path + " ended with " + std::to_string(output.exit_code) + (said.empty() ? "" : ": " + said));
}

}  // namespace

std::string hook_state(const std::string& id, const std::string& bundle, const spec::Spec& spec, spec::Status status,
                       pid_t pid) {
  spec::State state;
  state.oci_version = spec.oci_version;
  state.id = id;
  state.status = status;
  state.pid = pid;
  state.bundle = bundle;
  state.annotations = spec.annotations;
  return spec::write_state(state);
}

Result<> run_hooks(const std::vector<spec::Hook>& hooks, std::string_view name, const std::string& state) {
  for (std::size_t i = 0; i < hooks.size(); ++i) {
    BERTH_TRY(run_hook(hooks[i], state), std::string(name) + " hook #" + std::to_string(i));
  }
  return {};
}

void run_hooks_logged(const std::vector<spec::Hook>& hooks, std::string_view name, const std::string& state) {
  for (const auto& hook : hooks) {
    if (auto done = run_hook(hook, state); !done) {
      log_warn("a hook failed, going on", {{"hook", name}, {"err", done.error().text()}});
    }
  }
}

}  // namespace berth::engine::process
