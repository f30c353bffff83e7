#include "engine/external/container.h"

#include <cerrno>
#include <csignal>

#include "base/log.h"
#include "base/strings.h"
#include "engine/external/exec_cgroup.h"
#include "engine/external/mount_places.h"
#include "engine/process/systemd_unit.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/pidfd.h"
#include "os/process_exe.h"

namespace berth::engine::external {
namespace {

constexpr std::size_t kMaxPidFile = 32;
constexpr std::chrono::milliseconds kLaunchTimeout{60'000};

// Goes when the call ends.
class TemporaryFile final {
 public:
  explicit TemporaryFile(std::string path) : path_(std::move(path)) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  TemporaryFile(TemporaryFile&&) = delete;
  TemporaryFile& operator=(TemporaryFile&&) = delete;
  ~TemporaryFile() { ignore(os::remove_file(path_), "it goes with the bundle"); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

Result<Process> launch(Runtime& runtime, Launch launch) {
  const TemporaryFile pid_file(launch.pid_file);
  // The container's id stands last.
  auto& words = launch.command.words;
  std::vector<std::string> flags = {"--pid-file", launch.pid_file};
  std::optional<ConsoleSocket> console;
  if (launch.terminal) {
    BERTH_ASSIGN(auto listening, ConsoleSocket::listen(launch.command.bundle), "terminal");
    console.emplace(std::move(listening));
    flags.insert(flags.end(), {"--console-socket", ConsoleSocket::kName});
    launch.command.stdio = {};
  }
  if (!launch.command.extra_fds.empty()) {
    flags.insert(flags.end(), {"--preserve-fds", std::to_string(launch.command.extra_fds.size())});
  }
  words.insert(words.end() - 1, flags.begin(), flags.end());
  launch.command.timeout = kLaunchTimeout;
  BERTH_TRY(runtime.run(launch.command), "runtime");
  BERTH_ASSIGN(const std::string text, os::read_file(launch.pid_file, kMaxPidFile), "pid file");
  const auto pid = parse_number<pid_t>(trim(text));
  if (!pid || *pid <= 0) return fail(Code::kCorrupt, "the runtime's pid file holds no pid");
  Process process;
  process.pid = *pid;
  // Ours by now, alive or not: it was left by the runtime, and nobody but us reaps it.
  BERTH_ASSIGN(process.pidfd, os::open_pidfd(*pid), "process of the runtime");
  if (console) {
    BERTH_ASSIGN(process.console, console->take(), "terminal");
  }
  return process;
}

bool ExternalContainer::alive() const {
  if (!parts_.init.pidfd.valid()) return false;
  const auto ended = os::wait_readable(parts_.init.pidfd.get(), std::chrono::milliseconds(0));
  return ended && !*ended;
}

Result<> ExternalContainer::run(std::vector<std::string> words) {
  Command command;
  command.words = std::move(words);
  command.bundle = parts_.bundle;
  return parts_.runtime->run(command);
}

Result<> ExternalContainer::start() {
  if (started_) return fail(Code::kPrecondition, "cannot start a container that is running or has stopped");
  if (!alive()) return fail(Code::kPrecondition, "cannot start a container that has stopped");
  started_ = true;
  const auto runtime = os::executed_file(parts_.init.pid);
  BERTH_TRY(run({"start", parts_.id}), "start");
  // The runtime's process has been let go and becomes the program a moment later: signals until then would be its.
  if (runtime) parts_.runtime->exec_wait().wait(parts_.init.pid, parts_.init.pidfd.get(), *runtime);
  return {};
}

Result<Process> ExternalContainer::exec(const ExecRequest& request) {
  const TemporaryFile file(parts_.bundle + "/exec.json");
  BERTH_TRY(os::write_file_atomic(file.path(), spec::write_process(request.process), 0600), "process of the exec");
  Launch wanted;
  wanted.command.words = {"exec", "--process", file.path(), "--detach"};
  // Without `--cgroup` the processes that the exec started are not told from the others: a timeout ends the first
  // alone.
  const bool grouped = !request.sub_cgroup.empty() && !parts_.cgroup.empty() && parts_.runtime->exec_takes_cgroup();
  if (grouped) {
    BERTH_TRY(make_exec_cgroup(*parts_.layout, parts_.cgroup_path, request.sub_cgroup), "exec");
    wanted.command.words.insert(wanted.command.words.end(), {"--cgroup", "/" + request.sub_cgroup});
  }
  wanted.command.words.push_back(parts_.id);
  wanted.command.bundle = parts_.bundle;
  wanted.command.stdio = request.stdio;
  wanted.command.extra_fds = request.extra_fds;
  wanted.pid_file = parts_.bundle + "/exec.pid";
  wanted.terminal = request.process.terminal;
  return launch(*parts_.runtime, std::move(wanted));
}

Result<bool> ExternalContainer::end_exec(const std::string& sub_cgroup, bool kill_rest) {
  if (sub_cgroup.empty() || parts_.cgroup.empty()) return true;
  return end_exec_cgroup(*parts_.layout, parts_.cgroup_path, sub_cgroup, kill_rest);
}

Result<> ExternalContainer::kill(int signal, bool all) {
  if (all && signal == SIGKILL && !parts_.cgroup.empty()) {
    // By the cgroup: it leaves nobody who forks meanwhile, and works when init has ended.
    BERTH_ASSIGN(const std::size_t count, parts_.cgroup.kill_all(signal), "kill");
    if (count == 0) return fail(Code::kNotFound, "container not running");
    return {};
  }
  if (!alive() && !all) return fail(Code::kNotFound, "container not running");
  std::vector<std::string> words = {"kill"};
  if (all) words.emplace_back("--all");
  words.insert(words.end(), {parts_.id, std::to_string(signal)});
  return run(std::move(words));
}

Result<> tell_limits(const ExternalContainer::Parts& parts, const spec::Resources& resources) {
  const auto& program = parts.runtime->options().scope_program;
  if (program.empty()) return {};
  return process::set_scope_limits(program, parts.cgroup_path, resources, parts.layout->v2);
}

Result<> ExternalContainer::update(const spec::Resources& resources) {
  BERTH_TRY(tell_limits(parts_, resources), "update");
  const TemporaryFile file(parts_.bundle + "/resources.json");
  BERTH_TRY(os::write_file_atomic(file.path(), spec::write_resources(resources), 0600), "resources");
  return run({"update", "--resources", file.path(), parts_.id});
}

Result<bool> ExternalContainer::oom_killed() const {
  if (parts_.oom != nullptr) return parts_.oom->kills(*parts_.layout, parts_.cgroup_path) > 0;
  return parts_.cgroup.oom_kills() > 0;
}

Result<> ExternalContainer::remove() {
  if (removed_) return {};
  BERTH_TRY(clear_container(parts_), "remove");
  removed_ = true;
  return {};
}

Result<> clear_container(const ExternalContainer::Parts& parts) {
  if (parts.oom != nullptr) parts.oom->forget(*parts.layout, parts.cgroup_path);
  if (!parts.cgroup.empty()) {
    // First: a runtime's own way is to signal init and to look ten times a second whether that has helped.
    ignore(parts.cgroup.kill_all(SIGKILL), "the removal of the cgroup tells what is left");
  }
  Command command;
  command.words = {"delete", "--force", parts.id};
  command.bundle = parts.bundle;
  auto deleted = parts.runtime->run(command);
  if (!deleted && deleted.error().code() == Code::kUnavailable) {
    log_warn("the runtime is not there to delete what it keeps of a container",
             {{"container", parts.id}, {"err", deleted.error().text()}});
  } else if (!deleted && deleted.error().code() != Code::kNotFound) {
    return deleted;
  }
  BERTH_TRY(parts.cgroup.remove(), "cgroup");
  if (parts.layout != nullptr) forget_unified(*parts.layout, parts.cgroup_path);
  BERTH_TRY(detach_mount_trees(parts.bundle), "mounts");
  if (!parts.root_attached) return {};
  auto detached = os::detach_mount(parts.bundle + "/rootfs");
  const bool none = !detached && (detached.error().errno_value() == EINVAL || detached.error().errno_value() == ENOENT);
  return none ? Result<>() : detached;
}

}  // namespace berth::engine::external
