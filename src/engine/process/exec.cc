#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <csignal>

#include "base/log.h"
#include "engine/process/container.h"
#include "engine/process/exec_terminal.h"
#include "engine/process/finish.h"
#include "engine/process/launch.h"
#include "engine/process/protocol.h"
#include "os/caps.h"
#include "os/namespace.h"
#include "os/pidfd.h"
#include "os/process_attr.h"
#include "os/root_path.h"
#include "os/socket.h"

namespace berth::engine::process {

namespace {

struct ExecChild {
  const ExecRequest* request = nullptr;
  const spec::Spec* spec = nullptr;
  CgroupEntry cgroup;
  int init_pidfd = -1;
  int filter_cache = -1;
  int channel = -1;
};

/// The namespaces of the container that differ from the caller's, as setns flags. pid is joined by clone.
int namespaces_of(const spec::Spec& spec) {
  int flags = 0;
  for (const auto& entry : spec.linux->namespaces) {
    if (entry.type != spec::NamespaceType::kPid) flags |= clone_flag_of(entry.type);
  }
  return flags;
}

Result<> run_exec(ExecChild& child) {
  const auto& process = child.request->process;
  BERTH_TRY(child.cgroup.enter(), "cgroup");
  Finish::Setup setup;
  setup.process = &process;
  setup.seccomp = child.spec->linux->seccomp ? &*child.spec->linux->seccomp : nullptr;
  setup.filter_cache = child.filter_cache;
  setup.stdio = child.request->stdio;
  setup.extra_fds = &child.request->extra_fds;
  setup.in_user_namespace = (namespaces_of(*child.spec) & CLONE_NEWUSER) != 0;
  setup.keep_fds = {&child.channel};
  setup.warn = [&child](const std::string& text) {
    ignore(send_signal(child.channel, Signal::kWarning, text), "a warning that nobody hears");
  };
  const bool needs_proc = process.oom_score_adj || !process.apparmor_profile.empty() || !process.selinux_label.empty();
  UniqueFd proc;
  if (needs_proc) {
    BERTH_ASSIGN(proc, os::open_verified_proc(), "procfs");
  }
  BERTH_TRY(os::join_namespaces(child.init_pidfd, namespaces_of(*child.spec)), "join the container");
  if (setup.in_user_namespace) ignore(os::set_ids(0, 0), "a namespace without a root is entered by capabilities");
  UniqueFd terminal;
  if (process.terminal) {
    BERTH_ASSIGN(terminal, open_exec_terminal(process, child.channel), "terminal");
    setup.terminal = terminal.get();
  }
  Finish finish(std::move(setup));
  if (proc.valid()) BERTH_TRY(finish.with_host_proc(proc.get()), "process");
  proc.reset();
  BERTH_TRY(finish.before_wait(), "process");
  [[maybe_unused]] const int closed = terminal.release();  // before_wait() closed all
  return finish.exec();
}

/// Until end of file, which is the exec.
Result<> wait_for_exec(int channel_fd, const std::string& id, Process& process) {
  while (true) {
    auto message = os::receive_message(channel_fd);
    if (!message) {
      if (message.error().code() == Code::kUnavailable) return {};
      return fail(std::move(message).error());
    }
    switch (static_cast<Signal>(message->kind)) {
      case Signal::kConsole:
        process.console = std::move(message->fd);
        break;
      case Signal::kWarning:
        log_warn(message->text, {{"container", id}});
        break;
      case Signal::kError:
        return fail(error_of(*message));
      default:
        return fail(Code::kInternal, "unexpected message " + std::to_string(message->kind));
    }
  }
}

}  // namespace

Result<Process> LinuxContainer::exec(const ExecRequest& request) {
  if (!alive()) return fail(Code::kPrecondition, "cannot exec in a stopped container");
  if (request.process.args.empty()) return fail(Code::kInvalid, "process.args must not be empty");
  ExecChild child;
  child.request = &request;
  child.spec = &parts_.spec;
  child.init_pidfd = parts_.init.pidfd.get();
  child.filter_cache = parts_.filter_cache != nullptr ? parts_.filter_cache->get() : -1;
  BERTH_ASSIGN(child.cgroup, parts_.cgroup.entry(request.sub_cgroup), "exec");
  BERTH_ASSIGN(auto pair, os::unix_socketpair(), "exec");
  child.channel = pair.second.get();
  // Before the child is visible inside: nothing there may look at or hold on to what it has open or runs from.
  // Source: CVE-2016-9962, CVE-2019-5736.
  BERTH_TRY(os::set_dumpable(false), "exec");
  os::CloneOptions options;
  options.cgroup_fd = child.cgroup.v2_dir.get();
  const bool own_pids = parts_.spec.linux->find_namespace(spec::NamespaceType::kPid) != nullptr;
  auto cloned = clone_in_pid_namespace(options, own_pids ? child.init_pidfd : -1);
  if (!cloned) return fail(std::move(cloned).error().in("exec"));
  if (cloned->pid == 0) {
    pair.first.reset();
    const auto done = run_exec(child);
    ignore(send_error(child.channel, done ? Error(Code::kInternal, "exec returned") : done.error()),
           "nobody is left to tell");
    ::_exit(1);
  }
  pair.second.reset();
  child.cgroup = {};
  Process process{cloned->pid, std::move(cloned->pidfd), {}};
  if (auto done = wait_for_exec(pair.first.get(), parts_.id, process); !done) {
    ignore(os::pidfd_signal(process.pidfd.get(), SIGKILL), "it ends by itself");
    ignore(os::reap_pidfd(process.pidfd.get()), "a child of ours");
    return fail(std::move(done).error().in("exec"));
  }
  return process;
}

}  // namespace berth::engine::process
