#include "os/systemd.h"

#include <csignal>
#include <cstdlib>

#include "base/log.h"
#include "base/strings.h"
#include "os/file.h"
#include "os/pidfd.h"

namespace berth::os {

namespace {

// Longer than what berth-scope gives systemd.
constexpr std::chrono::milliseconds kTimeout{60'000};
constexpr std::size_t kOutputLimit = 64U << 10;

/// What finds the bus, and what is not there need not be passed on.
std::vector<std::string> environment() {
  std::vector<std::string> env;
  for (const char* name :
       {"PATH", "DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH"}) {
    const char* const value = ::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets them
    if (value != nullptr) env.push_back(std::string(name) + "=" + value);
  }
  return env;
}

SpawnOptions command(const std::string& program, const char* word, const SystemdUnit& unit,
                     const UnitProperties& properties) {
  SpawnOptions options;
  options.argv = {program, word};
  if (unit.user) options.argv.emplace_back("--user");
  options.argv.push_back(unit.name);
  options.argv.insert(options.argv.end(), properties.begin(), properties.end());
  options.env = environment();
  return options;
}

Error spawn_failure(Error error, const std::string& program) {
  if (error.code() != Code::kNotFound) return error;
  return Error(Code::kUnsupported,
               "the systemd cgroup driver needs the program berth-scope, and " + program + " is not there", ENOENT);
}

/// berth-scope's exit codes are those of sysexits(3).
Error failure(int exit_code, const std::string& said) {
  constexpr int kUsage = 64;
  constexpr int kUnavailable = 69;
  constexpr int kCannotCreate = 73;
  constexpr int kNoPermission = 77;
  const std::string text(trim(said));
  const Code code = exit_code == kUsage          ? Code::kInvalid
                    : exit_code == kUnavailable  ? Code::kUnavailable
                    : exit_code == kCannotCreate ? Code::kExists
                    : exit_code == kNoPermission ? Code::kDenied
                                                 : Code::kInternal;
  return Error(code, text.empty() ? "berth-scope ended with " + std::to_string(exit_code) : text);
}

Result<std::string> ask(SpawnOptions words) {
  const std::string program = words.argv.front();
  RunOptions options;
  options.spawn = std::move(words);
  options.timeout = kTimeout;
  auto output = run(std::move(options));
  if (!output) return fail(spawn_failure(std::move(output).error(), program).in("systemd"));
  if (output->exit_code != 0) return fail(failure(output->exit_code, output->err).in("systemd"));
  return std::string(trim(output->out));
}

}  // namespace

Result<NewScope> NewScope::start(const std::string& program, const SystemdUnit& unit,
                                 const UnitProperties& properties) {
  BERTH_ASSIGN(Pipe input, make_pipe(), "systemd");
  BERTH_ASSIGN(Pipe output, make_pipe(), "systemd");
  BERTH_ASSIGN(Pipe errors, make_pipe(), "systemd");
  SpawnOptions options = command(program, "start", unit, properties);
  options.fds = {{input.read.get(), 0}, {output.write.get(), 1}, {errors.write.get(), 2}};
  auto child = spawn(options);
  if (!child) return fail(spawn_failure(std::move(child).error(), program).in("systemd"));
  NewScope scope(std::move(*child), std::move(input.write));
  input.read.reset();
  output.write.reset();
  errors.write.reset();
  // It writes its line at once or ends.
  BERTH_ASSIGN(const bool answered, wait_readable(output.read.get(), kTimeout), "systemd");
  if (!answered) {
    ignore(pidfd_signal(scope.child_.pidfd.get(), SIGKILL), "it may have ended");
    return fail(Code::kTimeout, "systemd does not answer about " + unit.name);
  }
  std::string line(kOutputLimit, '\0');
  const ssize_t n = ::read(output.read.get(), line.data(), line.size());
  if (n < 0) return fail_errno(errno, "systemd: read the control group");
  line.resize(static_cast<std::size_t>(n));
  if (line.starts_with('/') && line.ends_with('\n')) {
    scope.control_group_ = trim(line);
    return scope;
  }
  scope.input_.reset();
  const auto said = read_all(errors.read.get(), kOutputLimit);
  const auto code = wait_exit(scope.child_);
  scope.child_ = {};
  return fail(failure(code.value_or(-1), said ? *said : std::string()).in("systemd"));
}

NewScope::~NewScope() {
  input_.reset();
  // Until it is gone it would be seen among the container's processes.
  if (child_.pidfd.valid()) ignore(wait_exit(child_), "a child of ours that ends by itself");
}

Result<std::string> start_scope_around(pid_t pid, const std::string& program, const SystemdUnit& unit,
                                       const UnitProperties& properties) {
  SpawnOptions words = command(program, "start", unit, properties);
  words.argv.insert(words.argv.begin() + 2, {"--pid", std::to_string(pid)});
  return ask(std::move(words));
}

Result<> set_unit(const std::string& program, const SystemdUnit& unit, const UnitProperties& properties) {
  if (properties.empty()) return {};
  BERTH_TRY(ask(command(program, "set", unit, properties)), unit.name);
  return {};
}

Result<> stop_unit(const std::string& program, const SystemdUnit& unit) {
  BERTH_TRY(ask(command(program, "stop", unit, {})), unit.name);
  return {};
}

}  // namespace berth::os
