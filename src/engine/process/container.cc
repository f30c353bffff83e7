#include "engine/process/container.h"

#include <sched.h>
#include <csignal>

#include "base/log.h"
#include "engine/process/hooks.h"
#include "engine/process/protocol.h"
#include "os/file.h"
#include "os/namespace.h"
#include "os/pidfd.h"
#include "os/socket.h"

namespace berth::engine::process {

namespace {
constexpr std::chrono::milliseconds kConnectTimeout{10'000};
constexpr std::chrono::milliseconds kKillTimeout{10'000};
}  // namespace

Result<os::Cloned> clone_in_pid_namespace(const os::CloneOptions& options, int join_pid) {
  if (join_pid < 0) return os::clone_process(options);
  // setns on a pid namespace changes only where children go, and can be taken back: no helper process in between.
  BERTH_ASSIGN(const UniqueFd own, os::open_file("/proc/self/ns/pid", O_RDONLY), "own pid namespace");
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
  BERTH_TRY(send_signal(channel_fd, Signal::kStart), "start");
  while (true) {
    auto message = os::receive_message(channel_fd);
    if (!message) {
      // End of file: exec closed the channel, or init was killed, which is the container's end and no failed start.
      if (message.error().code() == Code::kUnavailable) return {};
      return fail(std::move(message).error().in("start"));
    }
    if (message->kind == static_cast<std::uint32_t>(Signal::kError)) return fail(error_of(*message));
    if (message->kind == static_cast<std::uint32_t>(Signal::kWarning)) {
      log_warn(message->text, {{"container", parts_.id}});
    }
  }
}

Result<> LinuxContainer::start() {
  if (parts_.started) return fail(Code::kPrecondition, "cannot start a container that is running or has stopped");
  if (!alive()) return fail(Code::kPrecondition, "cannot start a container that has stopped");
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
  if (parts_.spec.hooks && !parts_.spec.hooks->poststart.empty()) {
    run_hooks_logged(parts_.spec.hooks->poststart, "poststart",
                     hook_state(parts_.id, parts_.bundle, parts_.spec, spec::Status::kRunning, parts_.init.pid));
  }
  return {};
}

bool LinuxContainer::alive() const {
  if (!parts_.init.pidfd.valid()) return false;
  const auto ended = os::wait_readable(parts_.init.pidfd.get(), std::chrono::milliseconds(0));
  return ended && !*ended;
}

bool LinuxContainer::waiting() const {
  if (!alive() || parts_.started) return false;
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
  return parts_.cgroup.set(resources, true);
}

Result<bool> LinuxContainer::oom_killed() const {
  BERTH_ASSIGN(const std::uint64_t kills, parts_.cgroup.oom_kills(), "out-of-memory kills");
  return kills > 0;
}

Result<> LinuxContainer::remove() {
  if (removed_) return {};
  if (alive()) {
    ignore(os::pidfd_signal(parts_.init.pidfd.get(), SIGKILL), "it may end right now");
  }
  BERTH_ASSIGN(const std::size_t killed,
               parts_.cgroup.empty() ? Result<std::size_t>(0) : parts_.cgroup.kill_all(SIGKILL), "remove");
  if (killed != 0 || alive()) {
    BERTH_ASSIGN(const bool ended,
                 parts_.init.pidfd.valid() ? os::wait_readable(parts_.init.pidfd.get(), kKillTimeout) : true, "remove");
    if (!ended) return fail(Code::kTimeout, "init does not end after SIGKILL");
  }
  BERTH_TRY(parts_.cgroup.remove(), "remove");
  if (!parts_.start_socket.empty()) BERTH_TRY(os::remove_file(parts_.start_socket), "remove");
  removed_ = true;
  if (parts_.spec.hooks && !parts_.spec.hooks->poststop.empty()) {
    run_hooks_logged(parts_.spec.hooks->poststop, "poststop",
                     hook_state(parts_.id, parts_.bundle, parts_.spec, spec::Status::kStopped, 0));
  }
  return {};
}

}  // namespace berth::engine::process
