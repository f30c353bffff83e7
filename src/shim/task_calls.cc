#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/ids.h"
#include "base/log.h"
#include "engine/process/checkpoint.h"
#include "engine/process/process_engine.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "shim/mount_trees.h"
#include "shim/pod.h"
#include "shim/remote.h"

// What the task service's calls do to the pod.
namespace berth::shim {
namespace {

constexpr std::size_t kMaxContainers = 1024;
constexpr std::size_t kMaxExecs = 4096;

std::uint32_t start_failure_code(const Error& error) {
  switch (error.errno_value()) {
    case ENOENT:
    case ENOTDIR:
      return 127;
    case EACCES:
    case EPERM:
    case ENOEXEC:
      return 126;
    default:
      return 128;
  }
}

// The caller's object exists; what does not is a program in it.
Error start_error(Error error) {
  const bool program =
      error.code() == Code::kNotFound || error.code() == Code::kDenied || error.errno_value() == ENOEXEC;
  return program ? std::move(error).as(Code::kInvalid) : std::move(error);
}

Result<> begin_io(ProcessIo& io, Container& container, pid_t pid, UniqueFd console) {
  auto* const remote = dynamic_cast<RemoteTerminals*>(container.engine.get());
  if (remote == nullptr) return io.started(std::move(console));
  RemoteTerminal terminal = remote->take_terminal(pid);
  return io.started_apart(std::move(terminal.output), std::move(terminal.input));
}

Result<> set_state(Container& container, ProcessState from, ProcessState to, Result<> (engine::Container::*change)()) {
  if (container.checkpointing) return fail(Code::kUnavailable, "a checkpoint of the container is being made");
  if (container.init.state != from) {
    return fail(Code::kPrecondition,
                "container " + container.id + (from == ProcessState::kPaused ? " is not paused" : " is not running"));
  }
  BERTH_TRY((container.engine.get()->*change)(), "container " + container.id);
  container.init.state = to;
  return {};
}

}  // namespace

struct Pod::Prepared {
  engine::CreateRequest request;
  std::unique_ptr<ProcessIo> io;
  std::shared_ptr<Container> container;
};

Result<Pod::Prepared> Pod::prepare(const CreateParams& params) const {
  Prepared prepared;
  BERTH_ASSIGN(const std::string json, os::read_file(params.bundle + "/config.json", spec::Limits{}.max_bytes),
               "read the bundle's configuration");
  BERTH_ASSIGN(spec::Spec spec, spec::parse_spec(json), params.bundle + "/config.json");
  BERTH_TRY(spec::validate(spec), params.bundle + "/config.json");
  if (!spec.process) return fail(Code::kInvalid, params.bundle + "/config.json: process: missing");
  spec.process->terminal = params.stdio.terminal;
  give_own_oom_score(*spec.process);

  auto container = std::make_shared<Container>();
  container->id = params.id;
  container->bundle = params.bundle;
  container->init.stdio = params.stdio;
  const spec::Namespace* pid_namespace = spec.linux ? spec.linux->find_namespace(spec::NamespaceType::kPid) : nullptr;
  container->own_pid_namespace = pid_namespace != nullptr && pid_namespace->path.empty();
  BERTH_TRY(join_pids(*container, pid_namespace), "pid namespace");
  prepared.container = std::move(container);

  const std::string spare = params.bundle + "/rootfs";
  if (!params.rootfs.empty()) {
    BERTH_ASSIGN(const RootPlan plan, plan_root(params.rootfs.front()), "rootfs");
    if (::mkdir(spare.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(errno, "mkdir " + spare);
    BERTH_ASSIGN(prepared.request.root_mount, make_root(plan, spare), "rootfs");
  }
  BERTH_ASSIGN(prepared.request.mount_trees, make_mount_trees(spec, options_.host_mounts.get(), spare), "mounts");
  prepared.request.id = params.id;
  prepared.request.bundle = params.bundle;
  prepared.request.spec = std::move(spec);
  prepared.request.die_with_parent = true;
  return prepared;
}

Result<std::unique_ptr<engine::Container>> Pod::make(const CreateParams& params, engine::CreateRequest request) {
  if (params.checkpoint.empty()) return engine_.create(std::move(request));
  auto* const own = dynamic_cast<engine::process::ProcessEngine*>(&engine_);
  if (own == nullptr) return fail(Code::kUnsupported, "only Berth's own engine restores a checkpoint");
  engine::process::RestoreRequest restore;
  restore.container = std::move(request);
  restore.options.criu.image_path = params.checkpoint;
  restore.options.criu.work_path = params.bundle + "/restore";
  restore.root_folder = params.bundle + "/criu-root";
  restore.frozen = true;
  auto restored = own->restore(std::move(restore));
  if (!restored) return fail(std::move(restored).error());
  return std::unique_ptr<engine::Container>(std::move(*restored));
}

Result<pid_t> Pod::create(CreateParams params) {
  if (!valid_id(params.id)) return fail(Code::kInvalid, "container id is not an id");
  if (!params.bundle.starts_with('/')) return fail(Code::kInvalid, "bundle is not an absolute path");
  if (!params.checkpoint.empty() && !params.checkpoint.starts_with('/')) {
    return fail(Code::kInvalid, "the checkpoint's folder is not an absolute path");
  }
  if (params.rootfs.size() > 1) return fail(Code::kInvalid, "rootfs has more than one mount");
  if (containers_.contains(params.id)) return fail(Code::kExists, "container " + params.id + " exists");
  if (containers_.size() >= kMaxContainers) return fail(Code::kExhausted, "the pod has too many containers");
  tidy_later();
  const std::string step = "create container " + params.id;
  BERTH_ASSIGN(Prepared prepared, prepare(params), step);
  BERTH_ASSIGN(prepared.io, ProcessIo::open(io_, params.stdio), step);
  prepared.request.stdio = prepared.io->child_ends();
  BERTH_TRY(failpoint("shim.create.logs"), step);
  const std::string asked_cgroup = prepared.request.spec.linux ? prepared.request.spec.linux->cgroups_path : "";
  BERTH_TRY(leftovers_.record({params.id, params.bundle, {}}), step);
  crashpoint("shim.create.recorded");

  auto made = make(params, std::move(prepared.request));
  crashpoint("shim.create.made");
  if (!made) {
    leftovers_.forget(params.id);
    return fail(start_error(std::move(made).error()).in(step));
  }
  Container& container = *prepared.container;
  container.engine = std::move(*made);
  container.init.pid = container.engine->init().pid;
  // Where the cgroup is cannot be said later when the path depends on who made it.
  if (const auto* own = dynamic_cast<const engine::process::ProcessContainer*>(container.engine.get());
      own != nullptr && own->cgroup_path() != asked_cgroup) {
    if (auto recorded = leftovers_.record({params.id, params.bundle, own->cgroup_path()}); !recorded) {
      log_warn("cgroup of the container is not recorded", {{"container", params.id}, {"err", recorded.error().text()}});
    }
  }
  if (auto copying = begin_io(*prepared.io, container, container.init.pid, container.engine->take_console());
      !copying) {
    if (auto undone = container.engine->remove(); !undone) {
      log_error("container stays", {{"container", params.id}, {"err", undone.error().text()}});
    } else {
      leftovers_.forget(params.id);
    }
    return fail(std::move(copying).error().in(step));
  }
  container.init.io = std::move(prepared.io);
  container.created_at_ns = wall_now_ns();
  container.changed_seq = changes_.next();
  reaper_.watch(container.init.pid, [this, owner = prepared.container](int code) { init_ended(owner, code); });
  const pid_t pid = container.init.pid;
  containers_.emplace(params.id, std::move(prepared.container));
  crashpoint("shim.create.watched");
  return pid;
}

Result<pid_t> Pod::start(std::string_view id, std::string_view exec_id) {
  BERTH_ASSIGN(const std::shared_ptr<Container> container, find(id), "start");
  if (exec_id.empty()) return start_init(*container);
  BERTH_ASSIGN(TaskProcess* const process, find_process(id, exec_id), "start");
  return start_exec(container, exec_id, *process);
}

void Pod::start_failed(TaskProcess& process, const Error& error) {
  if (process.state == ProcessState::kStopped) return;
  process.stopped(start_failure_code(error), wall_now_ns());
}

Result<pid_t> Pod::start_init(Container& container) {
  if (container.init.state != ProcessState::kCreated) {
    return fail(Code::kPrecondition, "container " + container.id + " was started before");
  }
  container.changed_seq = changes_.next();
  crashpoint("shim.start.begun");
  if (auto started = container.engine->start(); !started) {
    container.reason = "StartError";
    start_failed(container.init, started.error());
    return fail(start_error(std::move(started).error()).in("start container " + container.id));
  }
  container.init.state = ProcessState::kRunning;
  container.started_at_ns = wall_now_ns();
  crashpoint("shim.start.started");
  return container.init.pid;
}

Result<pid_t> Pod::start_exec(const std::shared_ptr<Container>& container, std::string_view exec_id,
                              TaskProcess& process) {
  const std::string step = "start process " + std::string(exec_id) + " in container " + container->id;
  if (process.state != ProcessState::kCreated || process.to_start == nullptr) {
    return fail(Code::kPrecondition, step + ": it was started before");
  }
  auto io = ProcessIo::open(io_, process.stdio);
  if (!io) {
    start_failed(process, io.error());
    return fail(std::move(io).error().in(step));
  }
  auto made = run_in(*container, *process.to_start, (*io)->child_ends(), {});
  process.to_start.reset();
  if (!made) {
    start_failed(process, made.error());
    return fail(start_error(std::move(made).error()).in(step));
  }
  process.pid = made->pid;
  process.pidfd = std::move(made->pidfd);
  process.state = ProcessState::kRunning;
  reaper_.watch(process.pid, [this, owner = container, name = std::string(exec_id), pid = process.pid](int code) {
    const auto found = owner->execs.find(name);
    if (found == owner->execs.end() || found->second.pid != pid) return;
    if (found->second.io != nullptr) found->second.io->finish();
    found->second.stopped(static_cast<std::uint32_t>(code), wall_now_ns());
    if (options_.on_exit) options_.on_exit(*owner, name, found->second);
  });
  process.io = std::move(*io);
  if (auto copying = begin_io(*process.io, *container, process.pid, std::move(made->console)); !copying) {
    ignore(os::pidfd_signal(process.pidfd.get(), SIGKILL), "it may have ended");
    return fail(std::move(copying).error().in(step));
  }
  return process.pid;
}

Result<> Pod::add_exec(std::string_view id, std::string_view exec_id, std::string_view process_json, StdioPaths stdio) {
  BERTH_ASSIGN(const std::shared_ptr<Container> container, find(id), "exec");
  if (!valid_id(exec_id)) return fail(Code::kInvalid, "exec id is not an id");
  if (container->init.state != ProcessState::kRunning) {
    return fail(Code::kPrecondition, "container " + container->id + " is not running");
  }
  if (container->execs.contains(exec_id)) {
    return fail(Code::kExists, "process " + std::string(exec_id) + " of container " + container->id + " exists");
  }
  if (container->execs.size() >= kMaxExecs) return fail(Code::kExhausted, "the container has too many execs");
  BERTH_ASSIGN(spec::Process process, spec::parse_process(process_json), "exec process");
  process.terminal = stdio.terminal;
  BERTH_TRY(spec::validate(process), "exec process");
  TaskProcess task;
  task.to_start = std::make_unique<spec::Process>(std::move(process));
  task.stdio = std::move(stdio);
  container->execs.emplace(exec_id, std::move(task));
  tidy_later();
  return {};
}

Result<Pod::Removed> Pod::remove(std::string_view id, std::string_view exec_id) {
  BERTH_ASSIGN(const std::shared_ptr<Container> container, find(id), "delete");
  if (!exec_id.empty()) return remove_exec(*container, exec_id);
  TaskProcess& init = container->init;
  if (init.state == ProcessState::kRunning || init.state == ProcessState::kPaused) {
    return fail(Code::kPrecondition, "container " + container->id + " is running");
  }
  BERTH_TRY(failpoint("shim.delete.begun"), "delete container " + container->id);
  BERTH_TRY(container->engine->remove(), "delete container " + container->id);
  crashpoint("shim.delete.removed");
  leftovers_.forget(container->id);
  const std::int64_t now = wall_now_ns();
  if (init.io != nullptr) init.io->finish();
  if (init.state == ProcessState::kCreated) init.stopped(128 + SIGKILL, now);
  for (auto& [name, exec] : container->execs) {
    if (exec.state != ProcessState::kStopped) exec.stopped(128 + SIGKILL, now);
  }
  reaper_.forget(init.pid);
  Removed removed{init.pid, init.exit_code, init.exited_at_ns};
  containers_.erase(container->id);
  crashpoint("shim.delete.done");
  tidy_later();
  return removed;
}

Result<Pod::Removed> Pod::remove_exec(Container& container, std::string_view exec_id) {
  BERTH_ASSIGN(TaskProcess* const process, find_process(container.id, exec_id), "delete");
  if (process->state == ProcessState::kRunning) {
    return fail(Code::kPrecondition, "process " + std::string(exec_id) + " is running");
  }
  if (process->state == ProcessState::kCreated) process->stopped(128 + SIGKILL, wall_now_ns());
  Removed removed{process->pid, process->exit_code, process->exited_at_ns};
  container.execs.erase(container.execs.find(exec_id));
  tidy_later();
  return removed;
}

Result<> Pod::kill(std::string_view id, std::string_view exec_id, int signal, bool all) {
  BERTH_ASSIGN(const std::shared_ptr<Container> container, find(id), "kill");
  if (signal < 0 || signal > SIGRTMAX)
    return fail(Code::kInvalid, "signal " + std::to_string(signal) + " does not exist");
  BERTH_ASSIGN(TaskProcess* const process, find_process(id, exec_id), "kill");
  if (!all && process->state == ProcessState::kStopped) return fail(Code::kNotFound, "the process has ended");
  if (all || exec_id.empty()) {
    BERTH_TRY(failpoint("shim.kill.begun"), "kill");
    BERTH_TRY(container->engine->kill(signal, all), "kill");
    crashpoint("shim.kill.sent");
    // A frozen process dies when it is thawed (cgroup v1).
    if (container->init.state == ProcessState::kPaused && signal == SIGKILL) return resume(id);
    return {};
  }
  if (!process->pidfd.valid()) return fail(Code::kPrecondition, "the process was not started");
  return os::pidfd_signal(process->pidfd.get(), signal);
}

Result<> Pod::pause(std::string_view id) {
  BERTH_ASSIGN(const std::shared_ptr<Container> container, find(id), "pause");
  BERTH_TRY(set_state(*container, ProcessState::kRunning, ProcessState::kPaused, &engine::Container::pause), "pause");
  container->changed_seq = changes_.next();
  return {};
}

Result<> Pod::resume(std::string_view id) {
  BERTH_ASSIGN(const std::shared_ptr<Container> container, find(id), "resume");
  BERTH_TRY(set_state(*container, ProcessState::kPaused, ProcessState::kRunning, &engine::Container::resume), "resume");
  container->changed_seq = changes_.next();
  return {};
}

Result<> Pod::update(std::string_view id, std::string_view resources_json) {
  BERTH_ASSIGN(const std::shared_ptr<Container> container, find(id), "update");
  BERTH_ASSIGN(const spec::Resources resources, spec::parse_resources(resources_json), "resources");
  tidy_later();
  BERTH_TRY(failpoint("shim.update.begun"), "update");
  BERTH_TRY(container->engine->update(resources), "update");
  crashpoint("shim.update.done");
  return {};
}

Result<> Pod::resize(std::string_view id, std::string_view exec_id, std::uint32_t columns, std::uint32_t rows) {
  BERTH_ASSIGN(TaskProcess* const process, find_process(id, exec_id), "resize");
  if (columns > 0xffff || rows > 0xffff) return fail(Code::kInvalid, "terminal size is out of range");
  if (process->io == nullptr) return fail(Code::kPrecondition, "the process has no terminal");
  BERTH_ASSIGN(const std::shared_ptr<Container> container, find(id), "resize");
  if (auto* const remote = dynamic_cast<RemoteTerminals*>(container->engine.get()); remote != nullptr) {
    return remote->resize(process->pid, static_cast<unsigned short>(columns), static_cast<unsigned short>(rows));
  }
  return process->io->resize(static_cast<unsigned short>(columns), static_cast<unsigned short>(rows));
}

Result<> Pod::close_stdin(std::string_view id, std::string_view exec_id) {
  BERTH_ASSIGN(TaskProcess* const process, find_process(id, exec_id), "close stdin");
  if (process->io != nullptr) process->io->close_stdin();
  BERTH_ASSIGN(const std::shared_ptr<Container> container, find(id), "close stdin");
  auto* const remote = dynamic_cast<RemoteTerminals*>(container->engine.get());
  // A terminal's input ends with what was taken from take_terminal().
  if (remote == nullptr || process->stdio.terminal || process->stdio.in.empty()) return {};
  return remote->close_input(process->pid);
}

Result<> Pod::reopen_log(std::string_view id) {
  BERTH_ASSIGN(const std::shared_ptr<Container> container, find(id), "reopen the log");
  return container->init.io->reopen_log();
}

Result<> Pod::watch(std::string_view id, const std::string& out, const std::string& err) {
  BERTH_ASSIGN(const std::shared_ptr<Container> container, find(id), "watch");
  const TaskProcess& init = container->init;
  if (init.state == ProcessState::kStopped || init.io == nullptr) {
    return fail(Code::kPrecondition, "container " + container->id + " has ended");
  }
  BERTH_TRY(init.io->watch(out, err), "watch container " + container->id);
  return {};
}

Result<> Pod::wait(std::string_view id, std::string_view exec_id, std::function<void(const TaskProcess&)> done) {
  BERTH_ASSIGN(TaskProcess* const process, find_process(id, exec_id), "wait");
  if (process->state == ProcessState::kStopped) {
    done(*process);
  } else {
    process->waiters.push_back(std::move(done));
  }
  return {};
}

}  // namespace berth::shim
