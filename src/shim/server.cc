#include "shim/server.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <optional>

#include "base/failpoint.h"
#include "base/ids.h"
#include "base/log.h"
#include "event/loop.h"
#include "os/file.h"
#include "os/namespace.h"
#include "os/socket.h"
#include "shim/checkpoint.h"
#include "shim/exec_sync.h"
#include "shim/pod.h"
#include "shim/pod_init.h"
#include "shim/pod_record.h"
#include "shim/remote.h"
#include "shim/sandbox.h"
#include "shim/sandbox_config.h"
#include "shim/services.h"
#include "ttrpc/server.h"

namespace berth::shim {
namespace {

// A client that does not read its answer must not keep the shim alive.
constexpr std::chrono::seconds kFlushGrace{1};

Result<> tell_ready(int fd, const std::string& address) {
  BERTH_TRY(os::write_all(fd, address + "\n"), "tell the address");
  // Whoever waits for the end of our output gets it; the number stays taken.
  BERTH_ASSIGN(const UniqueFd null, os::open_file("/dev/null", O_RDWR), "standard output");
  if (::dup3(null.get(), fd, fd > 2 ? O_CLOEXEC : 0) < 0) return fail_errno(errno, "dup3");
  return {};
}

ttrpc::ServerOptions server_options() {
  ttrpc::ServerOptions options;
  options.on_connection_error = [](const Error& reason) { log_warn("connection closed", {{"err", reason.text()}}); };
  return options;
}

}  // namespace

std::string socket_address(const std::string& folder) {
  return "unix://" + folder + "/" + kSocketName;
}

Result<> serve(engine::Engine& engine, const ServeOptions& options) {
  BERTH_ASSIGN(const std::optional<SandboxConfig> config, read_sandbox_config(options.folder), "pod");
  PodOptions pod_options;
  pod_options.sandbox_id = config ? config->sandbox_id : options.id;
  pod_options.folder = options.folder;
  if (config) pod_options.log_max_line_bytes = config->log_max_line_bytes;
  if (config && config->user_namespace) {
    pod_options.root = PodRoot{config->user_namespace->root_uid, config->user_namespace->root_gid};
  }
  if (config && config->sandbox_id != options.id) return fail(Code::kInvalid, "sandbox.json is of another pod");
  if (config) {
    BERTH_ASSIGN(pod_options.host_mounts, os::open_namespace("/proc/self/ns/mnt", CLONE_NEWNS), "pod");
  }
  // A client, a log reader or a FIFO that goes away is an error code, not the end.
  ::signal(SIGPIPE, SIG_IGN);
  BERTH_TRY(failpoint("shim.begun"), "pod");
  if (config) {
    // First: what is started for the pod from now on is where the pod is.
    BERTH_TRY(enter_scope(*config), "pod");
    BERTH_TRY(enter_sandbox(*config, options.folder), "pod");
  }
  BERTH_TRY(failpoint("shim.entered"), "pod");
  pod_options.oom = protect_from_oom();

  BERTH_ASSIGN(const std::unique_ptr<event::Loop> loop, event::Loop::create(), "event loop");
  Publisher publisher(*loop, options.events_address, options.name_space);
  TaskEvents events(publisher);
  pod_options.on_exit = [&events](const Container& container, const std::string& exec_id, const TaskProcess& process) {
    if (exec_id.empty() && container.oom_killed) events.out_of_memory(container.id);
    events.exited(container.id, exec_id, process);
  };
  Pod pod(*loop, engine, std::move(pod_options));
  BERTH_TRY(pod.start_reaping(), "children");
  if (config && config->pod_pid) {
    BERTH_ASSIGN(PodInit init, PodInit::start(config->user_namespace ? config->user_namespace->fd : -1), "pod");
    pod.keep_init(std::move(init));
    crashpoint("shim.pod-init.made");
  }
  auto* const remote = dynamic_cast<RemoteEngine*>(&engine);
  if (remote != nullptr) {
    BERTH_TRY(remote->attach(*loop, [&pod](pid_t pid, int code) { pod.reaper().ended(pid, code); }), "engine");
  }
  ExecSync execs(pod);
  Checkpoints checkpoints(pod);
  ttrpc::Server server(*loop, server_options());
  const auto stop = [&server, &loop] {
    server.stop_listening();
    server.when_flushed([&loop] { loop->stop(); });
    loop->add_timer(kFlushGrace, [&loop] { loop->stop(); });
  };
  serve_task_api(server, pod, events, stop);
  serve_sandbox_api(server, pod, stop);
  serve_shim_api(server, pod, execs, checkpoints);
  // Containers outlive what stops services with SIGTERM: only Shutdown ends a pod that has some.
  BERTH_ASSIGN(const event::WatchId signals,
               loop->watch_signals({SIGTERM, SIGINT},
                                   [&pod, &loop](const auto& info) {
                                     if (pod.containers().empty()) return loop->stop();
                                     log_warn("signal ignored: the pod has containers", {{"signal", info.ssi_signo}});
                                   }),
               "signals");
  PodRecord record(*loop, pod, options.folder + "/sandbox.json", [&loop] { loop->stop(); });
  if (config) record.look_every(options.record_interval);
  const std::string socket = options.socket_path.empty() ? kSocketName : options.socket_path;
  BERTH_ASSIGN(UniqueFd listener, os::unix_listen(socket), "socket");
  BERTH_TRY(server.listen(std::move(listener)), "socket");
  BERTH_TRY(failpoint("shim.listening"), "socket");
  BERTH_TRY(tell_ready(options.ready_fd, socket.starts_with('/') ? "unix://" + socket : socket_address(options.folder)),
            "start");
  crashpoint("shim.told");
  pod.tidy_later();
  auto ran = loop->run();
  if (!ran) log_error("event loop failed", {{"err", ran.error().text()}});
  loop->remove(signals);
  // The pod's containers do not outlive their supervisor, whatever ended it.
  pod.remove_all();
  if (remote != nullptr) remote->shut_down();
  crashpoint("shim.ended");
  ignore(os::remove_file(socket), "the folder goes with the pod");
  return {};
}

}  // namespace berth::shim
