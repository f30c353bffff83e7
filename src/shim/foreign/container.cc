#include "shim/foreign/container.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "base/log.h"
#include "containerd/runtime/task/v2/shim.pb.h"
#include "engine/external/exec_cgroup.h"
#include "engine/external/mount_places.h"
#include "engine/external/runtime_error.h"
#include "engine/process/systemd_unit.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/pidfd.h"
#include "os/process_exe.h"

namespace berth::shim::foreign {
namespace {

namespace task = ::containerd::task::v2;
using std::chrono::milliseconds;

constexpr milliseconds kStartLimit{30'000};
constexpr milliseconds kCallLimit{10'000};
constexpr milliseconds kGoneLimit{2'000};
constexpr milliseconds kRetryDelay{50};
constexpr int kDeleteTries = 10;
constexpr const char* kProcessType = "types.containerd.io/opencontainers/runtime-spec/1/Process";
constexpr const char* kResourcesType = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

bool link_failed(const Error& error) {
  return error.code() == Code::kTimeout || error.code() == Code::kUnavailable || error.code() == Code::kCorrupt;
}

bool ended(int pidfd) {
  const auto readable = os::wait_readable(pidfd, milliseconds(0));
  return readable && *readable;
}

template <class Request>
Result<> simple_call(const ForeignContainer::Parts& parts, const char* method, Request request) {
  request.set_id(parts.id);
  auto done = parts.link->ask<::berth::wkt::Empty>(method, request, kCallLimit);
  if (!done) return fail(explain(std::move(done).error()));
  return {};
}

// By the shim, which waits until all output is copied. It refuses while it has not seen the end of the process yet.
Result<> delete_task(const ForeignContainer::Parts& parts) {
  task::DeleteRequest request;
  request.set_id(parts.id);
  for (int attempt = 1;; ++attempt) {
    auto done = parts.link->ask<task::DeleteResponse>("Delete", request, kCallLimit);
    if (done || done.error().code() == Code::kNotFound) return {};
    if (link_failed(done.error()) || attempt == kDeleteTries) return fail(std::move(done).error());
    ignore(os::wait_readable(parts.init.pidfd.get(), kRetryDelay), "only the pause counts");
    ::usleep(static_cast<useconds_t>(std::chrono::microseconds(kRetryDelay).count()));
  }
}

}  // namespace

Error explain(Error error) {
  // To our own callers a time limit is theirs.
  if (error.code() == Code::kTimeout) return std::move(error).as(Code::kUnavailable);
  if (link_failed(error) || error.code() != Code::kInternal) return error;
  return engine::external::classify(error.text());
}

Result<ShimStdio> shim_stdio(const engine::Stdio& stdio, bool terminal) {
  const auto name = [](int fd) { return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd); };
  ShimStdio result;
  result.terminal = terminal;
  if (terminal) {
    BERTH_ASSIGN(os::Pipe in, os::make_pipe(), "terminal");
    BERTH_ASSIGN(os::Pipe out, os::make_pipe(), "terminal");
    result.ends = {std::move(out.read), std::move(in.write)};
    result.shim_in = std::move(in.read);
    result.shim_out = std::move(out.write);
    result.in = name(result.shim_in.get());
    result.out = name(result.shim_out.get());
    result.outputs = watch_outputs({-1, result.shim_out.get(), -1});
    return result;
  }
  if (stdio.in >= 0) result.in = name(stdio.in);
  result.out = stdio.out >= 0 ? name(stdio.out) : "/dev/null";
  result.err = stdio.err >= 0 ? name(stdio.err) : "/dev/null";
  result.outputs = watch_outputs(stdio);
  return result;
}

RemoteTerminal ForeignContainer::take_terminal(pid_t pid) {
  const auto found = parts_.terminals.find(pid);
  if (found == parts_.terminals.end()) return {};
  return std::move(found->second.ends);
}

Result<> ForeignContainer::resize(pid_t pid, unsigned short columns, unsigned short rows) {
  const auto found = parts_.terminals.find(pid);
  if (found == parts_.terminals.end()) return fail(Code::kPrecondition, "the process has no terminal");
  task::ResizePtyRequest request;
  request.set_exec_id(found->second.exec_id);
  request.set_width(columns);
  request.set_height(rows);
  return simple_call(parts_, "ResizePty", std::move(request));
}

Result<> ForeignContainer::close_input(pid_t pid) {
  const auto exec_id = parts_.processes->exec_id(parts_.id, pid);
  if (!exec_id) return {};
  task::CloseIORequest request;
  request.set_exec_id(*exec_id);
  request.set_stdin(true);
  return simple_call(parts_, "CloseIO", std::move(request));
}

Result<UniqueFd> believe_pid(std::uint32_t pid, const engine::process::Cgroup& cgroup) {
  const auto number = static_cast<pid_t>(pid);
  if (number <= 0) return fail(Code::kCorrupt, "the shim tells no pid");
  auto pidfd = os::open_pidfd(number);
  if (!pidfd) {
    if (pidfd.error().code() == Code::kNotFound) return UniqueFd();
    return pidfd;
  }
  BERTH_ASSIGN(const std::vector<pid_t> members, cgroup.pids(), "pid of the shim");
  if (std::ranges::find(members, number) != members.end()) return pidfd;
  if (ended(pidfd->get())) return UniqueFd();
  return fail(Code::kCorrupt, "the shim tells pid " + std::to_string(pid) + ", which is not in the container's cgroup");
}

Result<> ForeignContainer::start() {
  task::StartRequest request;
  request.set_id(parts_.id);
  const auto runtime = os::executed_file(parts_.init.pid);
  auto done = parts_.link->ask<task::StartResponse>("Start", request, kStartLimit);
  if (!done) return fail(explain(std::move(done).error()));
  // The runtime's process has been let go and becomes the program a moment later: signals until then would be its.
  if (runtime && parts_.init.pidfd.valid()) {
    parts_.exec_wait->wait(parts_.init.pid, parts_.init.pidfd.get(), *runtime);
  }
  return {};
}

Result<engine::Process> ForeignContainer::exec(const engine::ExecRequest& request) {
  const std::string exec_id = "exec-" + std::to_string(++last_exec_);
  BERTH_ASSIGN(ShimStdio stdio, shim_stdio(request.stdio, request.process.terminal), "exec");
  task::ExecProcessRequest wanted;
  wanted.set_id(parts_.id);
  wanted.set_exec_id(exec_id);
  wanted.set_terminal(stdio.terminal);
  wanted.set_stdin(stdio.in);
  wanted.set_stdout(stdio.out);
  wanted.set_stderr(stdio.err);
  wanted.mutable_spec()->set_type_url(kProcessType);
  wanted.mutable_spec()->set_value(spec::write_process(request.process));
  auto added = parts_.link->ask<::berth::wkt::Empty>("Exec", wanted, kCallLimit);
  if (!added) return fail(explain(std::move(added).error()));
  auto started = start_exec(exec_id, stdio);
  if (!started) {
    task::DeleteRequest undo;
    undo.set_id(parts_.id);
    undo.set_exec_id(exec_id);
    parts_.link->call_later("Delete", undo.SerializeAsString(), [](const Result<std::string>&) {});
    return started;
  }
  if (!request.sub_cgroup.empty() && started->pidfd.valid()) group_exec(request.sub_cgroup, started->pid);
  return started;
}

Result<engine::Process> ForeignContainer::start_exec(const std::string& exec_id, ShimStdio& stdio) {
  task::StartRequest request;
  request.set_id(parts_.id);
  request.set_exec_id(exec_id);
  auto reply = parts_.link->ask<task::StartResponse>("Start", request, kCallLimit);
  if (!reply) return fail(explain(std::move(reply).error()));
  engine::Process process;
  process.pid = static_cast<pid_t>(reply->pid());
  BERTH_ASSIGN(process.pidfd, believe_pid(reply->pid(), parts_.cgroup), "exec");
  Watched watched;
  watched.id = parts_.id;
  watched.exec_id = exec_id;
  watched.pid = process.pid;
  watched.outputs = std::move(stdio.outputs);
  watched.link = parts_.link;
  if (process.pidfd.valid()) {
    BERTH_ASSIGN(watched.pidfd, os::dup_fd(process.pidfd.get()), "exec");
  }
  BERTH_TRY(parts_.processes->add(std::move(watched)), "exec");
  parts_.terminals.erase(process.pid);  // of one that had this number before
  if (stdio.terminal) parts_.terminals[process.pid] = {exec_id, std::move(stdio.ends)};
  return process;
}

// No shim can be asked for it: the process is moved when it runs already, and with it what it has started till then.
void ForeignContainer::group_exec(const std::string& sub_cgroup, pid_t pid) const {
  if (auto made = engine::external::make_exec_cgroup(*parts_.layout, parts_.cgroup_path, sub_cgroup); !made) {
    log_debug("an exec stays in its container's cgroup", {{"container", parts_.id}, {"err", made.error().text()}});
    return;
  }
  ignore(engine::external::move_to_exec_cgroup(*parts_.layout, parts_.cgroup_path, sub_cgroup, pid),
         "it may have ended already");
}

Result<bool> ForeignContainer::end_exec(const std::string& sub_cgroup, bool kill_rest) {
  if (sub_cgroup.empty()) return true;
  return engine::external::end_exec_cgroup(*parts_.layout, parts_.cgroup_path, sub_cgroup, kill_rest);
}

Result<> ForeignContainer::kill(int signal, bool all) {
  if (all) {
    BERTH_ASSIGN(const std::size_t count, parts_.cgroup.kill_all(signal), "kill");
    if (count == 0) return fail(Code::kNotFound, "container not running");
    return {};
  }
  if (ended(parts_.init.pidfd.get())) return fail(Code::kNotFound, "container not running");
  task::KillRequest request;
  request.set_signal(static_cast<std::uint32_t>(signal));
  auto done = parts_.link->alive() ? simple_call(parts_, "Kill", request)
                                   : Result<>(fail(Code::kUnavailable, "the shim has ended"));
  if (done || !link_failed(done.error())) return done;
  log_warn("a shim passes on no signal: it goes to the process itself",
           {{"container", parts_.id}, {"signal", signal}, {"err", done.error().text()}});
  return os::pidfd_signal(parts_.init.pidfd.get(), signal);
}

Result<> ForeignContainer::pause() {
  return simple_call(parts_, "Pause", task::PauseRequest());
}

Result<> ForeignContainer::resume() {
  return simple_call(parts_, "Resume", task::ResumeRequest());
}

Result<> tell_limits(const ForeignContainer::Parts& parts, const spec::Resources& resources) {
  if (parts.scope_program.empty()) return {};
  return engine::process::set_scope_limits(parts.scope_program, parts.cgroup_path, resources, parts.layout->v2);
}

Result<> ForeignContainer::update(const spec::Resources& resources) {
  BERTH_TRY(tell_limits(parts_, resources), "update");
  task::UpdateTaskRequest request;
  request.mutable_resources()->set_type_url(kResourcesType);
  request.mutable_resources()->set_value(spec::write_resources(resources));
  return simple_call(parts_, "Update", std::move(request));
}

Result<bool> ForeignContainer::oom_killed() const {
  if (parts_.oom != nullptr) return parts_.oom->kills(*parts_.layout, parts_.cgroup_path) > 0;
  return parts_.cgroup.oom_kills() > 0;
}

Result<> ForeignContainer::remove() {
  if (removed_) return {};
  BERTH_TRY(clear_container(parts_), "remove");
  parts_.processes->forget(parts_.id);
  removed_ = true;
  return {};
}

Result<> clear_container(const ForeignContainer::Parts& parts) {
  if (parts.oom != nullptr) parts.oom->forget(*parts.layout, parts.cgroup_path);
  if (!parts.cgroup.empty()) {
    ignore(parts.cgroup.kill_all(SIGKILL), "the removal of the cgroup tells what is left");
    if (parts.init.pidfd.valid()) {
      ignore(os::wait_readable(parts.init.pidfd.get(), kGoneLimit), "the removal of the cgroup tells what is left");
    }
  }
  auto deleted = parts.link != nullptr && parts.link->alive()
                     ? delete_task(parts)
                     : Result<>(fail(Code::kUnavailable, "the shim has ended"));
  if (!deleted) deleted = Program::run_delete(parts.program, parts.id, parts.bundle);
  if (!deleted) {
    log_warn("the shim does not delete what it keeps of a container",
             {{"container", parts.id}, {"err", deleted.error().text()}});
  }
  if (!parts.cgroup.empty()) BERTH_TRY(parts.cgroup.remove(), "cgroup");
  if (parts.layout != nullptr) engine::external::forget_unified(*parts.layout, parts.cgroup_path);
  BERTH_TRY(engine::external::detach_mount_trees(parts.bundle), "mounts");
  if (!parts.root_attached) return {};
  auto detached = os::detach_mount(parts.bundle + "/rootfs");
  const bool none = !detached && (detached.error().errno_value() == EINVAL || detached.error().errno_value() == ENOENT);
  return none ? Result<>() : detached;
}

}  // namespace berth::shim::foreign
