#include "isolation.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/strings.h"
#include "os/file.h"
#include "os/namespace.h"
#include "os/pidfd.h"
#include "os/spawn.h"
#include "wait.h"

namespace berth::test {
namespace {

constexpr const char* kInside = "BERTH_TEST_INSIDE";
constexpr int kSkipped = 77;
constexpr std::chrono::seconds kEndTimeout{20};

int no_root() {
  const char* required = std::getenv("BERTH_REQUIRE");  // NOLINT(concurrency-mt-unsafe): no thread yet
  std::fprintf(stderr, "needs root: network namespaces, mounts and cgroups\n");
  return required != nullptr && std::strstr(required, "root") != nullptr ? 1 : kSkipped;
}

Result<> enter(const IsolationOptions& options) {
  // The supervisor cannot clean up after its own SIGKILL; then at least this process ends too.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return fail_errno(errno, "prctl PR_SET_PDEATHSIG");
  BERTH_TRY(os::unshare_namespaces(CLONE_NEWNET | (options.private_mounts ? CLONE_NEWNS : 0)), "isolate");
  if (options.private_mounts && ::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) {
    return fail_errno(errno, "make / a recursive slave");
  }
  return os::set_loopback_up();
}

// The parent of a process, or 0.
pid_t parent_of(const std::string& pid) {
  const auto stat = os::read_file("/proc/" + pid + "/stat", 4096);
  if (!stat) return 0;
  // The name in brackets may hold anything; what follows the last bracket is "<state> <ppid> ...".
  const auto bracket = stat->rfind(')');
  if (bracket == std::string::npos) return 0;
  const auto fields = split(trim(std::string_view(*stat).substr(bracket + 1)), ' ');
  return fields.size() < 2 ? 0 : parse_number<pid_t>(fields[1]).value_or(0);
}

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> children;
  const auto names = os::list_dir("/proc");
  if (!names) return children;
  for (const auto& name : *names) {
    if (const auto pid = parse_number<pid_t>(name); pid && parent_of(name) == parent) children.push_back(*pid);
  }
  return children;
}

void kill_tree(pid_t root) {
  for (const pid_t child : children_of(root)) {
    // The descriptor first: a process that ends meanwhile cannot be mistaken for another one.
    const auto pidfd = os::open_pidfd(child);
    if (!pidfd || parent_of(std::to_string(child)) != root) continue;
    kill_tree(child);
    ignore(os::pidfd_signal(pidfd->get(), SIGKILL), "it may have ended");
  }
}

int supervise(char** argv, int argc) {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return 1;
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT}) ::sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  os::SpawnOptions spawn;
  spawn.argv = {"/proc/self/exe"};
  for (int i = 1; i < argc; ++i) spawn.argv.emplace_back(argv[i]);
  spawn.env = own_environment();
  spawn.env.push_back(std::string(kInside) + "=yes");
  spawn.fds = {{0, 0}, {1, 1}, {2, 2}};
  const auto child = os::spawn(spawn);
  if (!child) {
    std::fprintf(stderr, "%s\n", child.error().text().c_str());
    return 1;
  }
  int code = 1;
  for (bool ended = false; !ended;) {
    int signal = 0;
    ::sigwait(&signals, &signal);
    if (signal != SIGCHLD) break;
    int status = 0;
    for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid != child->pid) continue;
      ended = true;
      code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
  }
  if (!end_descendants()) {
    std::fprintf(stderr, "processes of the test could not be ended\n");
    return 1;
  }
  return code;
}

}  // namespace

std::vector<std::string> own_environment() {
  std::vector<std::string> list;
  for (char** variable = environ; *variable != nullptr; ++variable) list.emplace_back(*variable);
  return list;
}

bool end_descendants() {
  return wait_until(kEndTimeout, [] {
    kill_tree(::getpid());
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    return children_of(::getpid()).empty();
  });
}

int run_isolated(int argc, char** argv, const IsolationOptions& options, const std::function<int()>& body) {
  if (::geteuid() != 0) return no_root();
  if (std::getenv(kInside) == nullptr) return supervise(argv, argc);  // NOLINT(concurrency-mt-unsafe): no thread yet
  ::unsetenv(kInside);                                                // NOLINT(concurrency-mt-unsafe)
  ::signal(SIGPIPE, SIG_IGN);
  if (const auto entered = enter(options); !entered) {
    std::fprintf(stderr, "%s\n", entered.error().text().c_str());
    return 1;
  }
  return body();
}

}  // namespace berth::test
