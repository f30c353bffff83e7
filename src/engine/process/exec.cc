#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <csignal>

#include "base/log.h"
#include "engine/process/container.h"
#include "engine/process/exec_terminal.h"
#include "engine/process/finish.h"
#include "engine/process/hooks.h"
#include "engine/process/intel_rdt.h"
#include "engine/process/launch.h"
#include "engine/process/protocol.h"
#include "engine/process/scheduling.h"
#include "engine/process/seccomp_listener.h"
#include "os/caps.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/namespace.h"
#include "os/pidfd.h"
#include "os/process_attr.h"
#include "os/root_path.h"
#include "os/socket.h"

namespace berth::engine::process {

namespace {

/// process.execCPUAffinity as bit sets; empty: leave it.
struct Affinity {
  std::vector<std::uint64_t> initial;
  std::vector<std::uint64_t> final_cpus;
};

/// That of the exec itself, or else of the container's process.
Result<Affinity> affinity_of(const spec::Process& process, const spec::Spec& spec) {
  const auto* config = process.exec_cpu_affinity ? &*process.exec_cpu_affinity : nullptr;
  if (config == nullptr && spec.process && spec.process->exec_cpu_affinity) config = &*spec.process->exec_cpu_affinity;
  Affinity affinity;
  if (config == nullptr) return affinity;
  BERTH_ASSIGN(affinity.initial, parse_id_list(config->initial), "process.execCPUAffinity.initial");
  BERTH_ASSIGN(affinity.final_cpus, parse_id_list(config->final_cpus), "process.execCPUAffinity.final");
  return affinity;
}

struct ExecChild {
  const ExecRequest* request = nullptr;
  const spec::Spec* spec = nullptr;
  CgroupEntry cgroup;
  Affinity affinity;
  std::vector<UniqueFd> rdt;  ///< RdtGroup::entry(); empty: none
  int init_pidfd = -1;
  UniqueFd root;  ///< of init, where the container shares the caller's mount namespace
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

Result<> enter_cgroup(const ExecChild& child) {
  if (!child.affinity.initial.empty()) {
    BERTH_TRY(os::set_cpu_affinity(child.affinity.initial), "process.execCPUAffinity.initial");
    // Not born in there, since the initial CPUs are for the time before it.
    if (child.cgroup.v2_dir.valid()) {
      BERTH_TRY(os::write_existing_at(child.cgroup.v2_dir.get(), "cgroup.procs", "0"), "join the cgroup");
    }
  }
  BERTH_TRY(child.cgroup.enter(), "join");
  if (!child.affinity.final_cpus.empty()) {
    BERTH_TRY(os::set_cpu_affinity(child.affinity.final_cpus), "process.execCPUAffinity.final");
  }
  return {};
}

Result<> run_exec(ExecChild& child) {
  const auto& process = child.request->process;
  BERTH_TRY(enter_cgroup(child), "cgroup");
  BERTH_TRY(enter_rdt(child.rdt), "resctrl");
  Finish::Setup setup;
  setup.process = &process;
  setup.memory_policy = child.spec->linux->memory_policy ? &*child.spec->linux->memory_policy : nullptr;
  setup.seccomp = child.spec->linux->seccomp ? &*child.spec->linux->seccomp : nullptr;
  setup.filter_cache = child.filter_cache;
  setup.stdio = child.request->stdio;
  setup.extra_fds = &child.request->extra_fds;
  setup.in_user_namespace = (namespaces_of(*child.spec) & CLONE_NEWUSER) != 0;
  setup.keep_fds = {&child.channel};
  setup.warn = [&child](const std::string& text) {
    ignore(send_signal(child.channel, Signal::kWarning, text), "a warning that nobody hears");
  };
  setup.announce_listener = [&child](int page_fd) { return announce_listener(child.channel, page_fd); };
  const bool needs_proc = process.oom_score_adj || !process.apparmor_profile.empty() || !process.selinux_label.empty();
  UniqueFd proc;
  if (needs_proc) {
    BERTH_ASSIGN(proc, os::open_verified_proc(), "procfs");
  }
  child.rdt.clear();
  if (setup.in_user_namespace && proc.valid())
    BERTH_TRY(set_oom_score(process, proc.get(), "self", setup.warn), "process");
  BERTH_TRY(os::join_namespaces(child.init_pidfd, namespaces_of(*child.spec)), "join the container");
  if (child.root.valid()) BERTH_TRY(os::chroot_into(child.root.get()), "enter the root");
  child.root.reset();
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
Result<> wait_for_exec(int channel_fd, const LinuxContainer::Parts& parts, Process& process) {
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
      case Signal::kListener:
        BERTH_TRY(
            serve_listener({channel_fd, process.pidfd.get(), process.pid, &parts.spec,
                            hook_state(parts.id, parts.bundle, parts.spec, spec::Status::kRunning, parts.init.pid)},
                           std::move(message->fd)),
            "linux.seccomp");
        break;
      case Signal::kWarning:
        log_warn(message->text, {{"container", parts.id}});
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
  if (const auto& rdt = parts_.spec.linux->intel_rdt) {
    BERTH_ASSIGN(const auto group, RdtGroup::open(*rdt, parts_.id, parts_.resctrl_root), "exec");
    BERTH_ASSIGN(child.rdt, group.entry(), "exec");
  }
  if (parts_.spec.linux->find_namespace(spec::NamespaceType::kMount) == nullptr) {
    BERTH_ASSIGN(child.root, os::open_file("/proc/" + std::to_string(parts_.init.pid) + "/root", O_PATH), "exec");
    if (!alive()) return fail(Code::kPrecondition, "cannot exec in a stopped container");
  }
  BERTH_ASSIGN(child.affinity, affinity_of(request.process, parts_.spec), "exec");
  BERTH_ASSIGN(child.cgroup, parts_.cgroup.entry(request.sub_cgroup), "exec");
  BERTH_ASSIGN(auto pair, os::unix_socketpair(), "exec");
  child.channel = pair.second.get();
  // Before the child is visible inside: nothing there may look at or hold on to what it has open or runs from.
  // Source: CVE-2016-9962, CVE-2019-5736.
  BERTH_TRY(os::set_dumpable(false), "exec");
  os::CloneOptions options;
  if (child.affinity.initial.empty()) options.cgroup_fd = child.cgroup.v2_dir.get();
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
  child.rdt.clear();
  Process process{cloned->pid, std::move(cloned->pidfd), {}};
  if (auto done = wait_for_exec(pair.first.get(), parts_, process); !done) {
    ignore(os::pidfd_signal(process.pidfd.get(), SIGKILL), "it ends by itself");
    ignore(os::reap_pidfd(process.pidfd.get()), "a child of ours");
    return fail(std::move(done).error().in("exec"));
  }
  return process;
}

}  // namespace berth::engine::process
