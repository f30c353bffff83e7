#include "commands.h"

#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>

#include "beside.h"
#include "output.h"
#include "rootless.h"

namespace berth::oci {

namespace {

constexpr std::array<FlagSpec, 9> kGlobal{{{"root", 0, true},
                                           {"log", 0, true},
                                           {"log-format", 0, true},
                                           {"debug", 0, false},
                                           {"systemd-cgroup", 0, false},
                                           {"rootless", 0, true},
                                           {"criu", 0, true},
                                           {"version", 'v', false},
                                           {"help", 'h', false}}};
constexpr std::array<FlagSpec, 7> kCreate{{{"bundle", 'b', true},
                                           {"console-socket", 0, true},
                                           {"pid-file", 0, true},
                                           {"no-pivot", 0, false},
                                           {"no-new-keyring", 0, false},
                                           {"preserve-fds", 0, true},
                                           {"help", 'h', false}}};
constexpr std::array<FlagSpec, 10> kRun{{{"bundle", 'b', true},
                                         {"console-socket", 0, true},
                                         {"detach", 'd', false},
                                         {"keep", 0, false},
                                         {"pid-file", 0, true},
                                         {"no-subreaper", 0, false},
                                         {"no-pivot", 0, false},
                                         {"no-new-keyring", 0, false},
                                         {"preserve-fds", 0, true},
                                         {"help", 'h', false}}};
constexpr std::array<FlagSpec, 18> kExec{{{"console-socket", 0, true},
                                          {"cwd", 0, true},
                                          {"env", 'e', true},
                                          {"tty", 't', false},
                                          {"user", 'u', true},
                                          {"additional-gids", 'g', true},
                                          {"process", 'p', true},
                                          {"detach", 'd', false},
                                          {"pid-file", 0, true},
                                          {"process-label", 0, true},
                                          {"apparmor", 0, true},
                                          {"no-new-privs", 0, false},
                                          {"cap", 'c', true},
                                          {"preserve-fds", 0, true},
                                          {"cgroup", 0, true},
                                          {"ignore-paused", 0, false},
                                          {"no-subreaper", 0, false},
                                          {"help", 'h', false}}};
constexpr std::array<FlagSpec, 2> kKill{{{"all", 'a', false}, {"help", 'h', false}}};
constexpr std::array<FlagSpec, 2> kDelete{{{"force", 'f', false}, {"help", 'h', false}}};
constexpr std::array<FlagSpec, 3> kList{{{"format", 'f', true}, {"quiet", 'q', false}, {"help", 'h', false}}};
constexpr std::array<FlagSpec, 2> kPs{{{"format", 'f', true}, {"help", 'h', false}}};
constexpr std::array<FlagSpec, 3> kSpec{{{"bundle", 'b', true}, {"rootless", 0, false}, {"help", 'h', false}}};
constexpr std::array<FlagSpec, 3> kEvents{{{"stats", 0, false}, {"interval", 0, true}, {"help", 'h', false}}};
constexpr std::array<FlagSpec, 1> kPlain{{{"help", 'h', false}}};
constexpr std::array<FlagSpec, 19> kUpdate{{{"resources", 'r', true},
                                            {"blkio-weight", 0, true},
                                            {"cpu-period", 0, true},
                                            {"cpu-quota", 0, true},
                                            {"cpu-burst", 0, true},
                                            {"cpu-share", 0, true},
                                            {"cpu-rt-period", 0, true},
                                            {"cpu-rt-runtime", 0, true},
                                            {"cpu-idle", 0, true},
                                            {"cpuset-cpus", 0, true},
                                            {"cpuset-mems", 0, true},
                                            {"l3-cache-schema", 0, true},
                                            {"mem-bw-schema", 0, true},
                                            {"memory", 0, true},
                                            {"memory-reservation", 0, true},
                                            {"memory-swap", 0, true},
                                            {"pids-limit", 0, true},
                                            {"kernel-memory", 0, true},
                                            {"help", 'h', false}}};

constexpr std::array<FlagSpec, 18> kCheckpoint{{{"image-path", 0, true},
                                                {"work-path", 0, true},
                                                {"parent-path", 0, true},
                                                {"leave-running", 0, false},
                                                {"tcp-established", 0, false},
                                                {"tcp-skip-in-flight", 0, false},
                                                {"link-remap", 0, false},
                                                {"ext-unix-sk", 0, false},
                                                {"shell-job", 0, false},
                                                {"lazy-pages", 0, false},
                                                {"status-fd", 0, true},
                                                {"page-server", 0, true},
                                                {"file-locks", 0, false},
                                                {"pre-dump", 0, false},
                                                {"manage-cgroups-mode", 0, true},
                                                {"empty-ns", 0, true},
                                                {"auto-dedup", 0, false},
                                                {"help", 'h', false}}};
constexpr std::array<FlagSpec, 19> kRestore{{{"bundle", 'b', true},
                                             {"console-socket", 0, true},
                                             {"image-path", 0, true},
                                             {"work-path", 0, true},
                                             {"tcp-established", 0, false},
                                             {"ext-unix-sk", 0, false},
                                             {"shell-job", 0, false},
                                             {"file-locks", 0, false},
                                             {"manage-cgroups-mode", 0, true},
                                             {"detach", 'd', false},
                                             {"pid-file", 0, true},
                                             {"no-subreaper", 0, false},
                                             {"no-pivot", 0, false},
                                             {"empty-ns", 0, true},
                                             {"auto-dedup", 0, false},
                                             {"lazy-pages", 0, false},
                                             {"lsm-profile", 0, true},
                                             {"lsm-mount-context", 0, true},
                                             {"help", 'h', false}}};

constexpr std::size_t kMany = 1U << 20;
constexpr std::string_view kId = "<container-id>";

constexpr std::array<Command, 17> kCommands{{
    {"create", kId, "make a container; its program waits for start", kCreate, 1, 1, true, run_create},
    {"start", kId, "let the program of a created container run", kPlain, 1, 1, false, run_start},
    {"run", kId, "create, start, wait, delete", kRun, 1, 1, true, run_run},
    {"exec", "<container-id> <command> [args...]", "run a further program in a container", kExec, 1, kMany, true,
     run_exec},
    {"state", kId, "print the state of a container as JSON", kPlain, 1, 1, false, run_state},
    {"kill", "<container-id> [signal]", "send a signal (SIGTERM) to a container", kKill, 1, 2, false, run_kill},
    {"delete", kId, "remove what is left of a container", kDelete, 1, 1, false, run_delete},
    {"list", "", "list the containers under --root", kList, 0, 0, false, run_list},
    {"ps", "<container-id> [ps options]", "show the processes of a container", kPs, 1, kMany, false, run_ps},
    {"pause", kId, "stop all processes of a container", kPlain, 1, 1, false, run_pause},
    {"resume", kId, "let a paused container go on", kPlain, 1, 1, false, run_resume},
    {"update", kId, "change the limits of a container", kUpdate, 1, 1, false, run_update},
    {"events", kId, "print statistics and out-of-memory kills as JSON lines", kEvents, 1, 1, false, run_events},
    {"checkpoint", kId, "write the processes of a container to files, with criu", kCheckpoint, 1, 1, false,
     run_checkpoint},
    {"restore", kId, "make a container out of a checkpoint and let it run on", kRestore, 1, 1, false, run_restore},
    {"spec", "", "write a config.json to start from", kSpec, 0, 0, false, run_spec},
    {"features", "", "print what this runtime can do as JSON", kPlain, 0, 0, false, run_features},
}};

/// runc's words where its callers look for them.
int report(Reporter& reporter, const Command* command, const Error& error) {
  std::string message = error.text();
  if (command != nullptr && (command->name == "run" || command->name == "create")) {
    message = "berth-oci " + std::string(command->name) + " failed: " + message;
  }
  reporter.error(message);
  constexpr int kExecFailed = 255;
  return command != nullptr && command->name == "exec" ? kExecFailed : 1;
}

Result<Args> parse_command(const Command& command, std::span<char* const> words) {
  auto args = Args::parse(words, command.flags);
  if (!args || args->on("help")) return args;
  const std::size_t count = args->rest().size();
  if (count < command.min_operands || count > command.max_operands) {
    const bool exact = command.min_operands == command.max_operands;
    const std::size_t bound = count < command.min_operands ? command.min_operands : command.max_operands;
    return fail(Code::kInvalid, "berth-oci: \"" + std::string(command.name) + "\" requires " +
                                    (exact           ? "exactly "
                                     : count < bound ? "a minimum of "
                                                     : "a maximum of ") +
                                    std::to_string(bound) + " argument(s)");
  }
  return args;
}

engine::process::Options engine_options(const Args& global, const char* own_name) {
  engine::process::Options options;
  const bool systemd = global.on("systemd-cgroup");
  if (systemd) options.cgroup_driver = engine::process::CgroupDriver::kSystemd;
  options.systemd_user = systemd && !machine_root();
  // A container that is there may be in a scope without our being told: looked for when it turns out so.
  options.scope_program = [own_name] { return program_beside(own_name, "berth-scope"); };
  return options;
}

}  // namespace

std::span<const Command> commands() {
  return kCommands;
}
std::span<const FlagSpec> global_flags() {
  return kGlobal;
}

const Command* find_command(std::string_view name) {
  for (const auto& command : kCommands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

int run_program(int argc, char** argv, char** envp) {
  ::signal(SIGPIPE, SIG_IGN);
  Reporter reporter;
  const std::span<char* const> words(argv + 1, static_cast<std::size_t>(argc > 0 ? argc - 1 : 0));
  auto global = Args::parse(words, kGlobal);
  if (!global) return report(reporter, nullptr, global.error());
  if (auto opened =
          reporter.open(global->value_or("log", ""), global->value_or("log-format", "text"), global->on("debug"));
      !opened) {
    return report(reporter, nullptr, opened.error());
  }
  const auto rest = global->rest();
  if (global->on("version")) {
    print(version_text());
    return 0;
  }
  if (global->on("help") || rest.empty() || std::string_view(rest[0]) == "help") {
    print(help_text());
    return 0;
  }
  const Command* const command = find_command(rest[0]);
  if (command == nullptr) {
    return report(
        reporter, nullptr,
        Error(Code::kUnsupported, "No help topic for '" + std::string(rest[0]) + "': no such command, or not built"));
  }
  auto args = parse_command(*command, rest.subspan(1));
  if (!args) return report(reporter, nullptr, args.error());
  if (args->on("help")) {
    print(help_text(*command));
    return 0;
  }
  if (command->enters) {
    if (auto safe = engine::process::protect_own_executable(argv, envp); !safe)
      return report(reporter, command, safe.error());
  }
  const auto rootless = rootless_of(*global);
  if (!rootless) return report(reporter, command, rootless.error());
  const auto options = engine_options(*global, argv[0]);
  const auto engine = engine::process::make_process_engine(options);
  Context context{StateStore(global->has("root") ? global->value_or("root", "") : default_root()),
                  *engine,
                  std::move(*args),
                  *rootless,
                  options.systemd_user,
                  global->value_or("criu", "criu")};
  const auto code = command->run(context);
  if (!code) return report(reporter, command, code.error());
  reporter.flush();
  return *code;
}

}  // namespace berth::oci
