#include "engine/process/container.h"

#include <sched.h>
#include <unistd.h>

#include <csignal>

#include "base/log.h"
#include "base/strings.h"
#include "engine/process/checkpoint.h"
#include "engine/process/hooks.h"
#include "engine/process/intel_rdt.h"
#include "engine/process/protocol.h"
#include "engine/process/seccomp_listener.h"
#include "os/channel.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/namespace.h"
#include "os/pidfd.h"
#include "os/socket.h"
#include "os/systemd.h"

namespace berth::engine::process {

namespace {
constexpr std::chrono::milliseconds kConnectTimeout{10'000};
constexpr std::chrono::milliseconds kKillTimeout{10'000};
}  // namespace

Result<pid_t> pid_of(int pidfd) {
  constexpr std::size_t kInfoLimit = 4096;
  BERTH_ASSIGN(const std::string text, os::read_file("/proc/self/fdinfo/" + std::to_string(pidfd), kInfoLimit),
               "pidfd");
  for (const auto line : split(text, '\n')) {
    if (!line.starts_with("Pid:")) continue;
    if (const auto pid = parse_number<pid_t>(trim(line.substr(4))); pid && *pid > 0) return *pid;
  }
  return fail(Code::kNotFound, "the process is gone");
}

namespace {

/// Root of a user namespace alone (below podman without root) has no rights over the pid namespace that it came from,
/// and would have no way back. So another process enters the container's and makes the child there, as its own sibling.
Result<os::Cloned> clone_by_helper(os::CloneOptions options, int join_pid) {
  BERTH_ASSIGN(auto pair, os::unix_socketpair(), "helper");
  BERTH_ASSIGN(const os::Cloned helper, os::clone_process({}), "helper");
  if (helper.pid == 0) {
    auto done = os::join_namespaces(join_pid, CLONE_NEWPID);
    options.flags |= CLONE_PARENT;
    auto cloned = done ? os::clone_process(options) : Result<os::Cloned>(fail(done.error().in("pid namespace")));
    if (cloned && cloned->pid == 0) return cloned;
    if (!cloned) {
      ignore(send_error(pair.second.get(), cloned.error()), "the end of the stream says the same");
      ::_exit(1);
    }
    os::ChannelMessage message;
    message.kind = static_cast<std::uint32_t>(Signal::kPid);
    message.fd = std::move(cloned->pidfd);
    ignore(os::send_message(pair.second.get(), message), "the end of the stream says the same");
    ::_exit(0);
  }
  pair.second.reset();
  auto message = os::receive_message(pair.first.get());
  ignore(os::reap_pidfd(helper.pidfd.get()), "a child of ours");
  if (!message) return fail(std::move(message).error().in("helper"));
  if (message->kind != static_cast<std::uint32_t>(Signal::kPid)) return fail(error_of(*message));
  os::Cloned cloned;
  cloned.pidfd = std::move(message->fd);
  BERTH_ASSIGN(cloned.pid, pid_of(cloned.pidfd.get()), "helper");
  return cloned;
}

}  // namespace

Result<os::Cloned> clone_in_pid_namespace(const os::CloneOptions& options, int join_pid) {
  if (join_pid < 0) return os::clone_process(options);
  // setns on a pid namespace changes only where children go, and can be taken back: no helper process in between.
  BERTH_ASSIGN(const UniqueFd own, os::open_file("/proc/self/ns/pid", O_RDONLY), "own pid namespace");
  // To where one is already: changes nothing, and tells whether one may.
  if (!os::join_namespaces(own.get(), CLONE_NEWPID)) return clone_by_helper(options, join_pid);
  BERTH_TRY(os::join_namespaces(join_pid, CLONE_NEWPID), "pid namespace");
  auto cloned = os::clone_process(options);
  if (cloned && cloned->pid == 0) return cloned;
  if (auto back = os::join_namespaces(own.get(), CLONE_NEWPID); !back) {
    // Everything this process would start from now on would land in the container.
    log_error("cannot come back to the own pid namespace, giving up", {{"err", back.error().text()}});
    if (cloned) ignore(os::pidfd_signal(cloned->pidfd.get(), SIGKILL), "it may be gone");
    std::abort();
  }
  return cloned;
}

Result<> LinuxContainer::start_over(int channel_fd) {
  if (!parts_.start_sent) BERTH_TRY(send_signal(channel_fd, Signal::kStart), "start");
  while (true) {
    auto message = os::receive_message(channel_fd);
    if (!message) {
      // End of file: exec closed the channel, or init was killed, which is the container's end and no failed start.
      if (message.error().code() == Code::kUnavailable) return {};
      return fail(std::move(message).error().in("start"));
    }
    if (message->kind == static_cast<std::uint32_t>(Signal::kError)) return fail(error_of(*message));
    if (message->kind == static_cast<std::uint32_t>(Signal::kListener)) {
      BERTH_TRY(
          serve_listener({channel_fd, parts_.init.pidfd.get(), parts_.init.pid, &parts_.spec,
                          hook_state(parts_.id, parts_.bundle, parts_.spec, spec::Status::kCreated, parts_.init.pid)},
                         std::move(message->fd)),
          "linux.seccomp");
    }
    if (message->kind == static_cast<std::uint32_t>(Signal::kWarning)) {
      log_warn(message->text, {{"container", parts_.id}});
    }
  }
}

void LinuxContainer::run_poststart() const {
  if (!parts_.spec.hooks || parts_.spec.hooks->poststart.empty()) return;
  run_hooks_logged(parts_.spec.hooks->poststart, "poststart",
                   hook_state(parts_.id, parts_.bundle, parts_.spec, spec::Status::kRunning, parts_.init.pid));
}

/// What was restored goes on where its checkpoint had stopped it.
Result<> LinuxContainer::start_frozen() {
  if (!alive()) return fail(Code::kPrecondition, "cannot start a container that has stopped");
  BERTH_TRY(parts_.cgroup.freeze(false), "start restored processes");
  parts_.frozen = false;
  parts_.started = true;
  run_poststart();
  return {};
}

Result<> LinuxContainer::start() {
  if (parts_.started) return fail(Code::kPrecondition, "cannot start a container that is running or has stopped");
  if (parts_.frozen) return start_frozen();
  if (!parts_.start_sent && !alive()) {
    return fail(Code::kPrecondition, "cannot start a container that has stopped");
  }
  Result<> done;
  if (parts_.channel.valid()) {
    done = start_over(parts_.channel.get());
    parts_.channel.reset();
  } else {
    auto socket = os::unix_connect(parts_.start_socket, kConnectTimeout);
    if (!socket) {
      const bool gone = socket.error().code() == Code::kNotFound || socket.error().code() == Code::kUnavailable;
      if (!gone) return fail(std::move(socket).error().in("start"));
      return fail(Code::kPrecondition, "cannot start a container that is running or has stopped");
    }
    done = start_over(socket->get());
    ignore(os::remove_file(parts_.start_socket), "it goes with the state folder");
  }
  parts_.started = true;
  BERTH_TRY(std::move(done), "start container process");
  run_poststart();
  return {};
}

bool LinuxContainer::alive() const {
  if (!parts_.init.pidfd.valid()) return false;
  const auto ended = os::wait_readable(parts_.init.pidfd.get(), std::chrono::milliseconds(0));
  return ended && !*ended;
}

bool LinuxContainer::waiting() const {
  if (!alive() || parts_.started || parts_.start_sent) return false;
  return parts_.channel.valid() || os::exists(parts_.start_socket);
}

std::uint64_t LinuxContainer::start_time() const {
  if (parts_.start_time != 0) return parts_.start_time;
  return os::process_start_time(parts_.init.pid).value_or(0);
}

Result<bool> LinuxContainer::end_exec(const std::string& sub_cgroup, bool kill_rest) {
  if (sub_cgroup.empty()) return true;
  BERTH_ASSIGN(const Cgroup group, parts_.cgroup.below(sub_cgroup), "exec");
  if (kill_rest) BERTH_TRY(group.kill_all(SIGKILL), "exec");
  return group.remove_if_empty();
}

Result<> LinuxContainer::kill(int signal, bool all) {
  if (all && !parts_.cgroup.empty()) {
    BERTH_ASSIGN(const std::size_t count, parts_.cgroup.kill_all(signal), "kill");
    if (count == 0) return fail(Code::kNotFound, "container not running");
    return {};
  }
  if (!alive()) return fail(Code::kNotFound, "container not running");
  BERTH_TRY(os::pidfd_signal(parts_.init.pidfd.get(), signal), "kill");
  // A frozen v1 cgroup does not even die.
  if (signal == SIGKILL && !parts_.cgroup.v2() && parts_.cgroup.frozen().value_or(false)) {
    BERTH_TRY(parts_.cgroup.freeze(false), "kill");
  }
  return {};
}

Result<> LinuxContainer::pause() {
  if (!alive()) return fail(Code::kPrecondition, "container not running");
  if (parts_.cgroup.empty()) return fail(Code::kUnsupported, "no cgroups on this host to pause with");
  return parts_.cgroup.freeze(true);
}

Result<> LinuxContainer::resume() {
  if (parts_.cgroup.empty()) return fail(Code::kUnsupported, "no cgroups on this host to pause with");
  return parts_.cgroup.freeze(false);
}

Result<> LinuxContainer::update(const spec::Resources& resources) {
  if (parts_.unit) {
    // systemd first: what it knows is what it writes, and the exact values after it.
    BERTH_ASSIGN(const auto properties, resource_properties(resources, parts_.cgroup.v2()), "update");
    BERTH_TRY(os::set_unit(parts_.scope_program(), *parts_.unit, properties), "update");
  }
  return parts_.cgroup.set(resources, true);
}

Result<> LinuxContainer::update_rdt(const std::string& l3_cache_schema, const std::string& mem_bw_schema) {
  if (!parts_.spec.linux || !parts_.spec.linux->intel_rdt) {
    return fail(Code::kPrecondition, "the container was made without linux.intelRdt");
  }
  spec::IntelRdt changed = *parts_.spec.linux->intel_rdt;
  changed.schemata.clear();
  changed.l3_cache_schema = l3_cache_schema;
  changed.mem_bw_schema = mem_bw_schema;
  BERTH_ASSIGN(auto group, RdtGroup::open(changed, parts_.id, parts_.resctrl_root), "update");
  return group.update();
}

Result<> LinuxContainer::checkpoint(const CheckpointOptions& options) {
  if (!alive()) return fail(Code::kPrecondition, "container not running");
  const auto& stdio = options.stdio.empty() ? parts_.stdio : options.stdio;
  return write_checkpoint({parts_.spec, parts_.bundle, parts_.init.pid, parts_.cgroup, stdio}, options);
}

Result<bool> LinuxContainer::oom_killed() const {
  if (parts_.oom != nullptr) return parts_.oom->kills(*parts_.layout, cgroup_text_) > 0;
  return parts_.cgroup.oom_kills() > 0;
}

std::string LinuxContainer::oom_cause() const {
  // Of one that is gone nobody knows it any more.
  if (parts_.oom != nullptr && !os::cgroup_oom_count(*parts_.layout, parts_.cgroup.paths())) return {};
  return parts_.cgroup.oom_cause();
}

/// Ends what is left in the cgroup and removes it.
Result<> LinuxContainer::clear_cgroup() {
  if (alive()) {
    ignore(os::pidfd_signal(parts_.init.pidfd.get(), SIGKILL), "it may end right now");
  } else if (parts_.cgroup.remove_if_empty().value_or(false)) {
    // Mostly nobody is left with init, and the removal finds that out by itself.
    return {};
  }
  BERTH_ASSIGN(const std::size_t killed,
               parts_.cgroup.empty() ? Result<std::size_t>(0) : parts_.cgroup.kill_all(SIGKILL), "kill");
  if (killed != 0 || alive()) {
    BERTH_ASSIGN(const bool ended,
                 parts_.init.pidfd.valid() ? os::wait_readable(parts_.init.pidfd.get(), kKillTimeout) : true, "wait");
    if (!ended) return fail(Code::kTimeout, "init does not end after SIGKILL");
  }
  return parts_.cgroup.remove();
}

Result<> release_shared_root(const std::string& path) {
  if (path.empty() || !os::exists(path)) return {};
  constexpr int kTries = 64;  // hooks may have mounted over it
  for (int i = 0; i < kTries; ++i) {
    auto done = os::detach_mount(path);
    if (!done && done.error().errno_value() == EINVAL) {  // no mount is left
      if (::rmdir(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "remove " + path);
      return {};
    }
    BERTH_TRY(std::move(done), "root file system");
  }
  return fail(Code::kUnavailable, path + " is mounted over and over");
}

Result<> LinuxContainer::remove() {
  if (removed_) return {};
  if (parts_.oom != nullptr) parts_.oom->forget(*parts_.layout, cgroup_text_);
  BERTH_TRY(clear_cgroup(), "remove");
  if (parts_.unit) BERTH_TRY(os::stop_unit(parts_.scope_program(), *parts_.unit), "remove");
  if (parts_.spec.linux && parts_.spec.linux->intel_rdt) {
    BERTH_TRY(remove_rdt(*parts_.spec.linux->intel_rdt, parts_.id, parts_.resctrl_root), "remove");
  }
  if (!parts_.start_socket.empty()) BERTH_TRY(os::remove_file(parts_.start_socket), "remove");
  BERTH_TRY(release_shared_root(parts_.shared_root), "remove");
  removed_ = true;
  if (parts_.spec.hooks && !parts_.spec.hooks->poststop.empty()) {
    run_hooks_logged(parts_.spec.hooks->poststop, "poststop",
                     hook_state(parts_.id, parts_.bundle, parts_.spec, spec::Status::kStopped, 0));
  }
  return {};
}

}  // namespace berth::engine::process
