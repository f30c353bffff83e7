#include "engine/external/runtime.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <csignal>

#include "base/log.h"
#include "base/strings.h"
#include "engine/external/runtime_error.h"
#include "os/channel.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/pidfd.h"
#include "os/socket.h"
#include "os/spawn.h"

namespace berth::engine::external {
namespace {

constexpr const char* kLogName = "/runtime.log";
constexpr std::size_t kMaxLog = 1U << 20;
constexpr const char* kPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr std::chrono::milliseconds kHelpTimeout{10'000};

}  // namespace

std::string program_name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

Result<> Runtime::run_once(const Command& command) {
  const std::string log = command.bundle + kLogName;
  BERTH_TRY(os::remove_file(log), "runtime's log");
  os::SpawnOptions spawn;
  spawn.argv = {options_.binary, "--root", options_.root, "--log", log, "--log-format", "json"};
  if (options_.by_systemd()) spawn.argv.emplace_back("--systemd-cgroup");
  spawn.argv.insert(spawn.argv.end(), command.words.begin(), command.words.end());
  spawn.env = {kPath};
  spawn.cwd = command.bundle;
  const int standard[] = {command.stdio.in, command.stdio.out, command.stdio.err};
  for (int i = 0; i < 3; ++i) {
    if (standard[i] >= 0) spawn.fds.push_back({standard[i], i});
  }
  int next = 3;
  for (const int fd : command.extra_fds) spawn.fds.push_back({fd, next++});
  auto child = os::spawn(spawn);
  if (!child) return fail(std::move(child).error().as(Code::kUnavailable));
  BERTH_ASSIGN(const bool ended, os::wait_readable(child->pidfd.get(), command.timeout), "wait");
  if (!ended) ignore(os::pidfd_signal(child->pidfd.get(), SIGKILL), "it may end right now");
  BERTH_ASSIGN(const int code, os::wait_exit(*child), "wait");
  if (!ended) {
    return fail(Code::kTimeout, "does not end within " + std::to_string(command.timeout.count() / 1000) + " s");
  }
  if (code == 0) return {};
  const auto text = os::read_file(log, kMaxLog);
  return fail(classify(last_error(text ? *text : "", "exit code " + std::to_string(code) + " without a message")));
}

Result<> Runtime::run(const Command& command) {
  const std::string step = program_name(options_.binary) + " " + command.words.front();
  auto done = run_once(command);
  if (!done && options_.private_mounts && refuses_hybrid_cgroups(done.error().text())) {
    BERTH_ASSIGN(const bool hidden, hide_unified(), step);
    if (hidden) {
      log_debug("the runtime gets a view of cgroups without v2", {{"runtime", options_.binary}});
      done = run_once(command);
    }
  }
  if (!done) return fail(std::move(done).error().in(step));
  return {};
}

Result<bool> Runtime::hide_unified() const {
  const std::string place = options_.cgroup_root + "/unified";
  if (!os::exists(place + "/cgroup.procs")) return false;
  // Covered and not unmounted: crun makes folders and plain files in what it takes for a v1 hierarchy there, which go
  // with this mount.
  BERTH_ASSIGN(const UniqueFd context, os::fs_open("tmpfs"), "hide " + place);
  BERTH_TRY(os::fs_set(context.get(), "mode", "755"), "hide " + place);
  BERTH_ASSIGN(const UniqueFd tree,
               os::fs_mount(context.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC), "hide " + place);
  BERTH_TRY(os::attach_tree_at(tree.get(), place), "hide " + place);
  return true;
}

bool Runtime::exec_takes_cgroup() {
  if (takes_cgroup_ == Answer::kUnknown) {
    os::RunOptions help;
    help.spawn.argv = {options_.binary, "exec", "--help"};
    help.spawn.env = {kPath};
    help.timeout = kHelpTimeout;
    const auto said = os::run(std::move(help));
    const bool takes = said && said->out.find("--cgroup") != std::string::npos;
    takes_cgroup_ = takes ? Answer::kYes : Answer::kNo;
  }
  return takes_cgroup_ == Answer::kYes;
}

Result<ConsoleSocket> ConsoleSocket::listen(const std::string& bundle) {
  std::string path = bundle + "/" + kName;
  BERTH_ASSIGN(UniqueFd listener, os::unix_listen(path), "console socket");
  return ConsoleSocket(std::move(path), std::move(listener));
}

ConsoleSocket::~ConsoleSocket() {
  if (listener_.valid()) ignore(os::remove_file(path_), "it goes with the bundle");
}

Result<UniqueFd> ConsoleSocket::take() const {
  // A first attempt that was refused may have left a connection without anything in it.
  constexpr int kMaxConnections = 8;
  for (int i = 0; i < kMaxConnections; ++i) {
    BERTH_ASSIGN(std::optional<UniqueFd> connection, os::accept_connection(listener_.get()), "console socket");
    if (!connection) break;
    auto terminal = os::receive_fd(connection->get());
    if (terminal || terminal.error().code() != Code::kUnavailable) return terminal;
  }
  return fail(Code::kInternal, "the runtime has sent no terminal");
}

}  // namespace berth::engine::external
