#include <unistd.h>

#include "base/strings.h"
#include "commands.h"
#include "create.h"
#include "os/file.h"
#include "relay.h"

namespace berth::oci {

namespace {

constexpr std::size_t kProcessLimit = 4U << 20;

Result<> set_user(const std::string& text, spec::User& user) {
  const std::size_t colon = text.find(':');
  const auto uid = parse_number<std::uint32_t>(std::string_view(text).substr(0, colon));
  if (!uid) return fail(Code::kInvalid, "--user: \"" + text + "\" is no uid[:gid]");
  user.uid = *uid;
  if (colon == std::string::npos) return {};
  const auto gid = parse_number<std::uint32_t>(std::string_view(text).substr(colon + 1));
  if (!gid) return fail(Code::kInvalid, "--user: \"" + text + "\" is no uid[:gid]");
  user.gid = *gid;
  return {};
}

void add_capability(const std::string& name, spec::Process& process) {
  if (!process.capabilities) process.capabilities.emplace();
  auto& caps = *process.capabilities;
  caps.bounding.push_back(name);
  caps.effective.push_back(name);
  caps.permitted.push_back(name);
  // Never inheritable by itself (CVE-2022-29162): so it becomes ambient, which a user other than root needs to keep it
  // over exec, only where the configuration has it inheritable. As runc does.
  caps.ambient.push_back(name);
}

/// The container's own process with what the flags change.
Result<spec::Process> process_of(const Args& args, const spec::Spec& spec) {
  if (const auto path = args.value("process")) {
    BERTH_ASSIGN(const std::string text, os::read_file(*path, kProcessLimit), "--process");
    BERTH_ASSIGN(spec::Process process, spec::parse_process(text), "--process " + *path);
    BERTH_TRY(spec::validate(process), "--process " + *path);
    return process;
  }
  spec::Process process = spec.process ? *spec.process : spec::Process();
  const auto words = args.rest().subspan(1);
  if (words.empty()) return fail(Code::kInvalid, "process args cannot be empty");
  process.args.assign(words.begin(), words.end());
  process.terminal = args.on("tty");
  process.console_size.reset();
  if (const auto cwd = args.value("cwd")) process.cwd = *cwd;
  for (const auto& entry : args.values("env")) process.env.push_back(entry);
  if (const auto user = args.value("user")) BERTH_TRY(set_user(*user, process.user), "exec");
  for (const auto& name : args.values("cap")) add_capability(name, process);
  for (const auto& text : args.values("additional-gids")) {
    const auto gid = parse_number<std::uint32_t>(text);
    if (!gid) return fail(Code::kInvalid, "--additional-gids: \"" + text + "\" is no group id");
    process.user.additional_gids.push_back(*gid);
  }
  if (args.has("no-new-privs")) process.no_new_privileges = args.on("no-new-privs");
  if (const auto profile = args.value("apparmor")) process.apparmor_profile = *profile;
  if (const auto label = args.value("process-label")) process.selinux_label = *label;
  return process;
}

}  // namespace

Result<int> run_exec(Context& context) {
  const Args& args = context.args;
  const std::string id = args.rest()[0];
  auto found = find_container(context.store, context.engine, id, true);
  if (!found) return fail(std::move(found).error().in("exec failed"));
  const spec::Status status = status_of(*found);
  if (status == spec::Status::kStopped)
    return fail(Code::kPrecondition, "exec failed: cannot exec in a stopped container");
  if (status == spec::Status::kPaused && !args.on("ignore-paused")) {
    return fail(Code::kPrecondition,
                "exec failed: cannot exec in a paused container (use --ignore-paused to override)");
  }
  engine::ExecRequest request;
  BERTH_ASSIGN(request.process, process_of(args, found->spec), "exec failed");
  const bool detached = args.on("detach");
  BERTH_TRY(check_console(detached, request.process.terminal, args), "exec failed");
  request.stdio = {0, 1, 2};
  request.sub_cgroup = args.value_or("cgroup", "");
  BERTH_ASSIGN(const PassedFds passed, passed_fds(args), "exec failed");
  request.extra_fds = passed.fds;
  add_listen_env(passed, request.process);
  Relay relay;
  if (!detached) BERTH_TRY(relay.catch_signals(), "exec failed");
  auto process = found->container->exec(request);
  if (!process) return fail(std::move(process).error().in("exec failed"));
  BERTH_TRY(write_pid_file(args, process->pid), "exec failed");
  if (args.has("console-socket")) {
    BERTH_TRY(send_console(args.value_or("console-socket", ""), process->console.get()), "exec failed");
  }
  if (detached) return 0;
  UniqueFd console = std::move(process->console);
  return relay.run(*process, std::move(console));
}

}  // namespace berth::oci
