#include "shim/foreign/program.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "base/log.h"
#include "base/strings.h"
#include "containerd/runtime/task/v2/shim.pb.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "os/process_list.h"
#include "os/socket.h"
#include "os/spawn.h"
#include "shim/foreign/bootstrap.h"
#include "spec/json_text.h"

namespace berth::shim::foreign {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kStartLimit{20'000};
constexpr milliseconds kConnectLimit{5'000};
constexpr milliseconds kDeleteLimit{20'000};
constexpr milliseconds kShutdownLimit{2'000};
constexpr milliseconds kEndLimit{2'000};
constexpr std::size_t kMaxWords = 1024;
constexpr std::size_t kMaxRecord = 8192;
constexpr std::size_t kMaxProcFile = 64U << 10;
constexpr const char* kNamespace = "berth";
constexpr const char* kEventsService = "containerd.services.events.ttrpc.v1.Events";

std::string home(const ProgramOptions& options) {
  return options.folder + "/foreign";
}

std::string events_socket(const ProgramOptions& options) {
  return home(options) + "/events.sock";
}

os::SpawnOptions command(const ProgramOptions& options, const std::string& id, const std::string& cwd) {
  os::SpawnOptions spawn;
  // The events go over the socket; a program that tells them one by one has nobody to tell.
  spawn.argv = {options.binary, "-namespace",           kNamespace,        "-id",      id,
                "-address",     events_socket(options), "-publish-binary", "/bin/true"};
  // A pod's folder is too deep for sun_path; by /proc it is not.
  const std::string near = "/proc/" + std::to_string(::getpid()) + "/cwd/foreign/events.sock";
  spawn.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TTRPC_ADDRESS=" + near,
               std::string("NAMESPACE=") + kNamespace, "MAX_SHIM_VERSION=3", "GOMAXPROCS=2"};
  spawn.cwd = cwd;
  return spawn;
}

Result<std::string> run_program(const os::SpawnOptions& spawn, milliseconds limit) {
  os::RunOptions run;
  run.spawn = spawn;
  run.timeout = limit;
  run.output_limit = 1U << 20;
  auto ran = os::run(std::move(run));
  if (!ran) {
    const Code code = ran.error().code() == Code::kTimeout ? Code::kTimeout : Code::kUnavailable;
    return fail(std::move(ran).error().as(code));
  }
  if (ran->exit_code == 0) return std::move(ran->out);
  std::string words(trim(ran->err.empty() ? ran->out : ran->err));
  if (words.size() > kMaxWords) words.resize(kMaxWords);
  return fail(Code::kUnavailable, "exit code " + std::to_string(ran->exit_code) + ": " + words);
}

// Of this process, which has one thread.
std::vector<pid_t> own_children() {
  std::vector<pid_t> pids;
  const std::string self = std::to_string(::getpid());
  const auto text = os::read_file("/proc/" + self + "/task/" + self + "/children", kMaxProcFile);
  if (!text) return pids;
  for (const auto word : split(*text, ' ')) {
    if (const auto pid = parse_number<pid_t>(trim(word)); pid && *pid > 0) pids.push_back(*pid);
  }
  return pids;
}

bool runs(pid_t pid, const std::string& binary) {
  std::error_code error;
  const auto exe = std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/exe", error);
  return !error && exe == std::filesystem::weakly_canonical(binary, error);
}

void wait_for_end(int pidfd, milliseconds limit) {
  ignore(os::wait_readable(pidfd, limit), "the caller goes on either way");
}

}  // namespace

std::string program_name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

Result<std::unique_ptr<Program>> Program::start(event::Loop& loop, const ProgramOptions& options, Link::OnEnd on_end) {
  const std::string name = program_name(options.binary);
  const std::string step = name + " start";
  std::unique_ptr<Program> program(new Program);
  program->options_ = options;
  BERTH_TRY(os::make_dirs(home(options), 0700), step);
  // Shims look here for what belongs together.
  spec::JsonWriter json;
  json.begin_object().key("ociVersion").string("1.0.2").key("annotations").begin_object();
  json.key("io.kubernetes.cri.sandbox-id").string(options.sandbox_id);
  json.key("io.kubernetes.cri.container-type").string("sandbox");
  json.end_object().end_object();
  BERTH_TRY(os::write_file_atomic(home(options) + "/config.json", json.take(), 0600), step);
  BERTH_ASSIGN(program->log_, LogDrain::start(loop, home(options) + "/log", name), step);
  program->events_ = std::make_unique<ttrpc::Server>(loop);
  program->events_->handle(kEventsService, "Forward",
                           [](std::string_view, ttrpc::Responder responder) { responder.ok({}); });
  BERTH_ASSIGN(UniqueFd listener, os::unix_listen(events_socket(options)), step);
  BERTH_TRY(program->events_->listen(std::move(listener)), step);

  const auto before = own_children();
  os::SpawnOptions spawn = command(options, options.sandbox_id, home(options));
  spawn.argv.emplace_back("start");
  BERTH_ASSIGN(const std::string said, run_program(spawn, kStartLimit), step);
  const auto answer = parse_bootstrap(said);
  auto adopted = program->adopt(options, before, answer ? answer->socket : std::string());
  if (adopted && !answer) adopted = fail(answer.error());
  auto socket = adopted ? os::unix_connect(answer->socket, kConnectLimit) : Result<UniqueFd>(fail(adopted.error()));
  if (socket) {
    const std::string service = answer->task_api == 3 ? "containerd.task.v3.Task" : "containerd.task.v2.Task";
    auto link = Link::start(loop, std::move(*socket), name, service, std::move(on_end));
    if (link) {
      program->link_ = std::move(*link);
      return program;
    }
    socket = fail(std::move(link).error());
  }
  program->kill();
  return fail(std::move(socket).error().in(step));
}

// The process that `start` has left: ours as the subreaper's, running the same program.
Result<> Program::adopt(const ProgramOptions& options, const std::vector<pid_t>& before, const std::string& socket) {
  socket_ = socket;
  for (const pid_t pid : own_children()) {
    if (std::ranges::find(before, pid) != before.end() || !runs(pid, options.binary)) continue;
    BERTH_ASSIGN(pidfd_, os::open_pidfd(pid), "process of the shim");
    BERTH_ASSIGN(const std::uint64_t started, os::process_start_time(pid), "process of the shim");
    return os::write_file_atomic(home(options) + "/shim",
                                 std::to_string(pid) + " " + std::to_string(started) + " " + socket + "\n", 0600);
  }
  return fail(Code::kUnavailable, "it has left no process of the same program");
}

void Program::kill() {
  if (pidfd_.valid()) {
    ignore(os::pidfd_signal(pidfd_.get(), SIGKILL), "it may have ended");
    wait_for_end(pidfd_.get(), kEndLimit);
  }
  ignore(clear(options_), "nothing is left but files");
}

void Program::shut_down() {
  ::containerd::task::v2::ShutdownRequest request;
  request.set_id(options_.sandbox_id);
  // It may end before it has answered.
  const auto said = link_->call("Shutdown", request.SerializeAsString(), kShutdownLimit);
  const bool hung = !said && said.error().code() == Code::kTimeout;
  if (!hung && pidfd_.valid()) wait_for_end(pidfd_.get(), kEndLimit);
  link_->close();
  kill();
}

Result<> Program::run_delete(const ProgramOptions& options, const std::string& id, const std::string& bundle) {
  const std::string step = program_name(options.binary) + " delete";
  os::SpawnOptions spawn = command(options, id, bundle);
  spawn.argv.insert(spawn.argv.end(), {"-bundle", bundle, "delete"});
  BERTH_TRY(run_program(spawn, kDeleteLimit), step);
  return {};
}

/// One that was started and not noted yet when we were killed: it has the pod's socket for events as an argument, as
/// nobody else has.
Result<> Program::clear_unnoted(const ProgramOptions& options) {
  if (!os::exists(home(options))) return {};
  BERTH_ASSIGN(const auto found, os::find_processes([&](const std::vector<std::string>& words) {
                 return std::ranges::find(words, events_socket(options)) != words.end();
               }),
               "shims that nobody noted");
  for (const auto& process : found) {
    ignore(os::pidfd_signal(process.pidfd.get(), SIGKILL), "it may have ended");
    wait_for_end(process.pidfd.get(), kEndLimit);
  }
  return {};
}

Result<> Program::clear(const ProgramOptions& options) {
  const auto text = os::read_file(home(options) + "/shim", kMaxRecord);
  if (!text) return clear_unnoted(options);
  const auto words = split(trim(*text), ' ');
  if (words.size() != 3) return fail(Code::kCorrupt, home(options) + "/shim: not what we write");
  const auto pid = parse_number<pid_t>(words[0]);
  const auto started = parse_number<std::uint64_t>(words[1]);
  if (!pid || *pid <= 1 || !started) return fail(Code::kCorrupt, home(options) + "/shim: not what we write");
  if (auto pidfd = os::open_pidfd(*pid); pidfd) {
    const auto seen = os::process_start_time(*pid);
    if (seen && *seen == *started) {
      ignore(os::pidfd_signal(pidfd->get(), SIGKILL), "it may have ended");
      wait_for_end(pidfd->get(), kEndLimit);
    }
  }
  // Where nobody listens any more: shims keep theirs in a folder that all share.
  const std::string place(words[2]);
  struct stat info{};
  const bool is_socket = ::lstat(place.c_str(), &info) == 0 && S_ISSOCK(info.st_mode);
  if (is_socket && !os::unix_connect(place, milliseconds(100))) {
    ignore(os::remove_file(place), "the next start replaces it");
  }
  return os::remove_file(home(options) + "/shim");
}

}  // namespace berth::shim::foreign
