#include <fcntl.h>
#include <linux/prctl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "engine/process/finish.h"
#include "engine/process/hooks.h"
#include "engine/process/launch.h"
#include "engine/process/protocol.h"
#include "engine/process/scheduling.h"
#include "engine/process/seccomp_listener.h"
#include "os/caps.h"
#include "os/clone.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/namespace.h"
#include "os/netns.h"
#include "os/process_attr.h"
#include "os/root_path.h"
#include "os/socket.h"

namespace berth::engine::process {

namespace {

/// The child's way from clone to exec; a step per function, in the order of run().
class Init {
 public:
  explicit Init(Launch& launch)
      : launch_(launch), spec_(*launch.spec), channel_(launch.channel), listener_(launch.listener) {}

  Result<> run();
  [[nodiscard]] int error_fd() const { return connection_.valid() ? connection_.get() : channel_; }

 private:
  Result<> enter_namespaces();
  Result<> map_user();
  Result<> make_time_namespace();
  Result<> name_host();
  Result<> take_net_devices();
  Result<> open_proc();
  Result<> wait_for_start();

  Launch& launch_;
  const spec::Spec& spec_;
  int channel_;
  int listener_;
  UniqueFd connection_;  ///< from the `start` of another process
  UniqueFd proc_;
  UniqueFd console_;
};

/// The child of a helper: the kernel made it the helper's sibling, so the helper's only task left is to tell its pid.
Result<> in_helper(const Launch& launch) {
  for (const auto& join : launch.joins) BERTH_TRY(os::join_namespaces(join.fd.get(), join.clone_flag), "join");
  if (launch.user_join.valid()) BERTH_TRY(os::join_namespaces(launch.user_join.get(), CLONE_NEWUSER), "join");
  os::CloneOptions options;
  // The cgroup namespace comes later, when the process is in its cgroup; the time namespace needs its offsets first.
  options.flags = CLONE_PARENT | (launch.new_namespaces & ~static_cast<std::uint64_t>(CLONE_NEWCGROUP | CLONE_NEWTIME));
  BERTH_ASSIGN(os::Cloned cloned, os::clone_process(options), "clone");
  if (cloned.pid == 0) return {};
  os::ChannelMessage message;
  message.kind = static_cast<std::uint32_t>(Signal::kPid);
  message.fd = std::move(cloned.pidfd);
  ignore(os::send_message(launch.channel, message), "without a parent, init finds its channel closed");
  ::_exit(0);
}

Result<> Init::map_user() {
  if (launch_.makes(CLONE_NEWUSER)) {
    BERTH_TRY(send_signal(channel_, Signal::kMapUser), "user namespace");
    BERTH_TRY(expect_signal(channel_, Signal::kGo), "user namespace");
  }
  if (!launch_.in_user_namespace()) return {};
  // Root inside, for everything that is set up. Where 0 is not mapped the overflow id keeps its capabilities all the
  // same.
  ignore(os::set_ids(0, 0), "a namespace without a root is set up by capabilities");
  return {};
}

Result<> Init::make_time_namespace() {
  if (!launch_.makes(CLONE_NEWTIME)) return {};
  BERTH_TRY(os::unshare_namespaces(CLONE_NEWTIME), "time namespace");
  // The offsets can only be set while nobody is in it.
  for (const auto& [clock, offset] : spec_.linux->time_offsets) {
    const std::string line = clock + " " + std::to_string(offset.secs) + " " + std::to_string(offset.nanosecs);
    BERTH_TRY(os::write_proc(proc_.get(), "self/timens_offsets", line), "linux.timeOffsets." + clock);
  }
  BERTH_ASSIGN(const UniqueFd ours, os::open_at(proc_.get(), "self/ns/time_for_children", O_RDONLY), "time namespace");
  return os::join_namespaces(ours.get(), CLONE_NEWTIME);
}

Result<> Init::enter_namespaces() {
  // By itself, before the cgroup namespace, whose root is the cgroup that its maker is in. A pending one comes later,
  // and so does its namespace.
  if (!launch_.cgroup_pending) BERTH_TRY(launch_.cgroup.enter(), "cgroup");
  const bool by_helper = launch_.in_user_namespace() && (!launch_.joins.empty() || launch_.user_join.valid());
  if (!by_helper) {
    for (const auto& join : launch_.joins) BERTH_TRY(os::join_namespaces(join.fd.get(), join.clone_flag), "join");
  }
  BERTH_TRY(map_user(), "namespaces");
  if (!launch_.cgroup_pending && launch_.makes(CLONE_NEWCGROUP)) {
    BERTH_TRY(os::unshare_namespaces(CLONE_NEWCGROUP), "namespaces");
  }
  return {};
}

Result<> Init::name_host() {
  if (!spec_.hostname.empty()) BERTH_TRY(os::set_hostname(spec_.hostname), "hostname");
  if (!spec_.domainname.empty()) BERTH_TRY(os::set_domainname(spec_.domainname), "domainname");
  if (launch_.makes(CLONE_NEWNET)) BERTH_TRY(os::set_loopback_up(), "network namespace");
  return {};
}

/// Only the parent has rights over both networks, and knows the caller's by being in it.
Result<> Init::take_net_devices() {
  if (spec_.linux->net_devices.empty()) return {};
  os::ChannelMessage message;
  message.kind = static_cast<std::uint32_t>(Signal::kNetwork);
  BERTH_ASSIGN(message.fd, os::current_netns(), "linux.netDevices");
  BERTH_TRY(os::send_message(channel_, message), "linux.netDevices");
  return expect_signal(channel_, Signal::kGo);
}

/// procfs of the host, where only that will do: the container's may be masked, covered or not there at all.
Result<> Init::open_proc() {
  const auto& process = *spec_.process;
  const bool needed = !spec_.linux->sysctl.empty() || process.oom_score_adj || !process.apparmor_profile.empty() ||
                      !process.selinux_label.empty() || launch_.makes(CLONE_NEWTIME);
  if (!needed) return {};
  BERTH_ASSIGN(proc_, os::open_verified_proc(), "procfs");
  return {};
}

Result<> Init::wait_for_start() {
  BERTH_TRY(send_signal(channel_, Signal::kReady), "report");
  if (listener_ < 0) {
    return expect_signal(channel_, Signal::kStart);
  }
  // Whoever reaches the socket may start the container: its folder is the runtime's own. A peer that goes away without
  // a word is no start.
  while (true) {
    BERTH_ASSIGN(connection_, os::wait_for_connection(listener_), "wait for the start");
    if (expect_signal(connection_.get(), Signal::kStart)) return {};
    connection_.reset();
  }
}

Result<> Init::run() {
  ::umask(0);
  BERTH_TRY(open_proc(), "init");
  BERTH_TRY(enter_namespaces(), "init");
  BERTH_TRY(make_time_namespace(), "init");
  BERTH_TRY(name_host(), "init");
  BERTH_TRY(take_net_devices(), "init");
  if (!launch_.request->no_new_keyring) {
    const auto joined = os::join_session_keyring(("_ses." + launch_.request->id).c_str());
    // A kernel without keyrings has nothing to separate.
    if (!joined && joined.error().code() != Code::kUnsupported) return fail(joined.error().in("session keyring"));
  }
  if (spec_.linux->personality) {
    BERTH_ASSIGN(const unsigned long persona, personality_number(*spec_.linux->personality), "linux.personality");
    BERTH_TRY(os::set_personality(persona), "linux.personality");
  }

  Finish::Setup setup;
  setup.process = &*spec_.process;
  setup.memory_policy = spec_.linux->memory_policy ? &*spec_.linux->memory_policy : nullptr;
  setup.seccomp = spec_.linux->seccomp ? &*spec_.linux->seccomp : nullptr;
  setup.filter_cache = launch_.filter_cache;
  setup.stdio = launch_.request->stdio;
  setup.extra_fds = &launch_.request->extra_fds;
  setup.die_with_parent = launch_.request->die_with_parent;
  setup.in_user_namespace = launch_.in_user_namespace();
  setup.keep_fds = {&channel_, &listener_};
  setup.warn = [this](const std::string& text) {
    ignore(send_signal(channel_, Signal::kWarning, text), "a warning that nobody hears");
  };
  setup.announce_listener = [this](int page_fd) { return announce_listener(error_fd(), page_fd); };
  Result<UniqueFd> entered = enter_rootfs(launch_, proc_.get());
  if (!entered) return fail(std::move(entered).error());
  console_ = std::move(*entered);
  setup.terminal = console_.get();
  Finish finish(std::move(setup));
  if (proc_.valid()) BERTH_TRY(finish.with_host_proc(proc_.get()), "process");
  // From here on nothing of the host may be open but the channel, whatever the container's processes can reach.
  proc_.reset();
  BERTH_TRY(finish.before_wait(), "process");
  [[maybe_unused]] const int closed = console_.release();  // before_wait() closed all
  BERTH_TRY(wait_for_start(), "start");
  if (spec_.hooks) {
    const std::string state =
        hook_state(launch_.request->id, launch_.request->bundle, spec_, spec::Status::kCreated, ::getpid());
    BERTH_TRY(run_hooks(spec_.hooks->start_container, "startContainer", state), "hooks");
  }
  return finish.exec();
}

}  // namespace

void run_init(Launch& launch) {
  if (launch.spec->hooks) ::signal(SIGPIPE, SIG_IGN);  // for their pipes; exec() resets it
  Result<> done;
  const bool by_helper = launch.in_user_namespace() && (!launch.joins.empty() || launch.user_join.valid());
  if (by_helper) done = in_helper(launch);
  if (!done) {
    ignore(send_error(launch.channel, done.error()), "nobody is left to tell");
    ::_exit(1);
  }
  Init init(launch);
  done = init.run();
  ignore(send_error(init.error_fd(), done ? Error(Code::kInternal, "exec returned") : done.error()),
         "nobody is left to tell");
  ::_exit(1);
}

}  // namespace berth::engine::process
