#include "process.h"

#include <signal.h>

#include <algorithm>
#include <utility>

#include "isolation.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "wait.h"

namespace berth::test {
namespace {

constexpr std::size_t kMaxOutput = 64U << 20;
constexpr std::chrono::seconds kKillTimeout{20};

std::vector<std::string> environment(std::vector<std::string> more) {
  auto all = own_environment();
  all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  return all;
}

// proc_pid_stat(5): the state follows the name.
bool all_stopped(const std::string& tasks) {
  const auto threads = os::list_dir(tasks);
  return threads && std::ranges::all_of(*threads, [&](const std::string& thread) {
           return os::read_file(tasks + "/" + thread + "/stat", 4096).value_or("").find(") T ") != std::string::npos;
         });
}

}  // namespace

Result<Process> Process::start(std::vector<std::string> argv, const std::string& log_path,
                               std::vector<std::string> more_env) {
  BERTH_ASSIGN(const auto log, os::open_file(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600), "log of " + argv[0]);
  os::SpawnOptions options;
  options.argv = std::move(argv);
  options.env = environment(std::move(more_env));
  options.fds = {{log.get(), 1}, {log.get(), 2}};
  Process process;
  BERTH_ASSIGN(process.child_, os::spawn(options), "start");
  return process;
}

Process::Process(Process&& other) noexcept : child_(std::exchange(other.child_, {})) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    kill();
    child_ = std::exchange(other.child_, {});
  }
  return *this;
}

Process::~Process() {
  kill();
}

bool Process::alive() const {
  if (!child_.pidfd.valid()) return false;
  const auto ended = os::wait_readable(child_.pidfd.get(), std::chrono::milliseconds(0));
  return ended && !*ended;
}

Result<> Process::signal(int number) {
  if (!child_.pidfd.valid()) return fail(Code::kNotFound, "no process");
  return os::pidfd_signal(child_.pidfd.get(), number);
}

Result<int> Process::wait(std::chrono::milliseconds timeout) {
  if (!child_.pidfd.valid()) return fail(Code::kNotFound, "no process");
  BERTH_ASSIGN(const bool ended, os::wait_readable(child_.pidfd.get(), timeout), "wait");
  if (!ended) return fail(Code::kTimeout, "process " + std::to_string(child_.pid) + " does not end");
  BERTH_ASSIGN(const int code, os::wait_exit(child_), "reap");
  child_ = {};
  return code;
}

Result<int> Process::stop(std::chrono::milliseconds grace) {
  BERTH_TRY(signal(SIGTERM), "ask to end");
  auto code = wait(grace);
  if (!code) kill();
  return code;
}

void Process::kill() {
  if (!child_.pidfd.valid()) return;
  ignore(signal(SIGKILL), "it may have ended");
  ignore(wait(kKillTimeout), "the supervisor ends what is left");
  child_ = {};
}

Result<> stop_threads(pid_t pid) {
  if (::kill(pid, SIGSTOP) != 0) return fail_errno(errno, "stop process " + std::to_string(pid));
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  if (wait_until(kKillTimeout, [&] { return all_stopped(tasks); })) return {};
  return fail(Code::kTimeout, "process " + std::to_string(pid) + " does not stop");
}

Result<Ran> run_program(std::vector<std::string> argv, std::chrono::milliseconds timeout,
                        std::vector<std::string> more_env) {
  os::RunOptions options;
  options.spawn.argv = std::move(argv);
  options.spawn.env = environment(std::move(more_env));
  options.timeout = timeout;
  options.output_limit = kMaxOutput;
  BERTH_ASSIGN(auto output, os::run(std::move(options)), "run");
  return Ran{output.exit_code, std::move(output.out), std::move(output.err)};
}

}  // namespace berth::test
