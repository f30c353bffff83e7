#include "os/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/strings.h"
#include "os/file.h"

namespace berth::os {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> list;
  list.reserve(strings.size() + 1);
  // posix_spawn takes char* const[] for historical reasons and writes nothing.
  for (const auto& text : strings) list.push_back(const_cast<char*>(text.c_str()));  // NOLINT
  list.push_back(nullptr);
  return list;
}

class FileActions {
 public:
  FileActions() { ::posix_spawn_file_actions_init(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  FileActions(FileActions&&) = delete;
  FileActions& operator=(FileActions&&) = delete;
  ~FileActions() { ::posix_spawn_file_actions_destroy(&actions_); }
  posix_spawn_file_actions_t* get() { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

class SpawnAttributes {
 public:
  SpawnAttributes() { ::posix_spawnattr_init(&attributes_); }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
  SpawnAttributes(SpawnAttributes&&) = delete;
  SpawnAttributes& operator=(SpawnAttributes&&) = delete;
  ~SpawnAttributes() { ::posix_spawnattr_destroy(&attributes_); }
  posix_spawnattr_t* get() { return &attributes_; }

 private:
  posix_spawnattr_t attributes_{};
};

void set_attributes(SpawnAttributes& attributes, const SpawnOptions& options) {
  short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
  if (options.new_process_group) flags = static_cast<short>(flags | POSIX_SPAWN_SETPGROUP);
  if (options.new_session) flags = static_cast<short>(flags | POSIX_SPAWN_SETSID);
  sigset_t signals;
  ::sigfillset(&signals);
  ::posix_spawnattr_setsigdefault(attributes.get(), &signals);
  ::sigemptyset(&signals);
  ::posix_spawnattr_setsigmask(attributes.get(), &signals);
  ::posix_spawnattr_setpgroup(attributes.get(), 0);
  ::posix_spawnattr_setflags(attributes.get(), flags);
}

// The mappings may overlap (fd 5 -> 3 while 3 -> 4), so sources are first moved above every target.
Result<std::vector<UniqueFd>> map_descriptors(FileActions& actions, const SpawnOptions& options) {
  std::vector<UniqueFd> moved;
  int highest = 2;
  for (const auto& mapping : options.fds) highest = std::max(highest, mapping.child_fd);
  bool given[3] = {false, false, false};
  for (const auto& mapping : options.fds) {
    const int source = ::fcntl(mapping.fd, F_DUPFD_CLOEXEC, highest + 1);
    if (source < 0) return fail_errno(errno, "dup for the child");
    moved.emplace_back(source);
    ::posix_spawn_file_actions_adddup2(actions.get(), source, mapping.child_fd);
    if (mapping.child_fd >= 0 && mapping.child_fd < 3) given[mapping.child_fd] = true;
  }
  for (int fd = 0; fd < 3; ++fd) {
    if (!given[fd]) {
      ::posix_spawn_file_actions_addopen(actions.get(), fd, "/dev/null", fd == 0 ? O_RDONLY : O_WRONLY, 0);
    }
  }
  ::posix_spawn_file_actions_addclosefrom_np(actions.get(), highest + 1);
  return moved;
}

}  // namespace

Result<Child> spawn(const SpawnOptions& options) {
  if (options.argv.empty()) return fail(Code::kInvalid, "spawn: no program");
  FileActions actions;
  SpawnAttributes attributes;
  set_attributes(attributes, options);
  BERTH_ASSIGN(const auto moved, map_descriptors(actions, options), "start " + options.argv[0]);
  if (!options.cwd.empty()) ::posix_spawn_file_actions_addchdir_np(actions.get(), options.cwd.c_str());
  const auto argv = pointers(options.argv);
  const auto env = pointers(options.env);
  Child child;
  const char* const program = options.program.empty() ? argv[0] : options.program.c_str();
  const int error = ::posix_spawnp(&child.pid, program, actions.get(), attributes.get(), argv.data(), env.data());
  if (error != 0) return fail_errno(error, std::string("start ") + program);
  // The child is not reaped before the caller does so: its pid cannot have been used again.
  child.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, child.pid, 0)));
  if (!child.pidfd) return fail_errno(errno, "pidfd_open of " + options.argv[0]);
  return child;
}

Result<int> wait_exit(const Child& child) {
  siginfo_t info{};
  int result = 0;
  do {
    result = ::waitid(P_PIDFD, static_cast<id_t>(child.pidfd.get()), &info, WEXITED);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return fail_errno(errno, "wait for pid " + std::to_string(child.pid));
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

namespace {

struct Stream {
  UniqueFd fd;
  std::string* text;
};

// Takes what is there; closes at end of file.
Result<> drain(Stream& stream, std::size_t limit, const std::string& program) {
  char buffer[16384];
  while (true) {
    const ssize_t n = ::read(stream.fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return {};
    if (n <= 0) {
      stream.fd.reset();
      return {};
    }
    if (stream.text->size() + static_cast<std::size_t>(n) > limit) {
      return fail(Code::kExhausted, program + " wrote more than " + std::to_string(limit) + " bytes");
    }
    stream.text->append(buffer, static_cast<std::size_t>(n));
  }
}

void feed(UniqueFd& fd, std::string_view& left) {
  while (fd.valid() && !left.empty()) {
    const ssize_t n = ::write(fd.get(), left.data(), left.size());
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;  // the child does not read its input: its own business
    left.remove_prefix(static_cast<std::size_t>(n));
  }
  fd.reset();
}

using Clock = std::chrono::steady_clock;

// Until the child has ended (then one last drain), failed its bounds or was called off.
Result<> pump(const RunOptions& options, const Child& child, UniqueFd& in, Stream (&streams)[2]) {
  const auto deadline = Clock::now() + options.timeout;
  std::string_view left = options.input;
  const std::string& program = options.spawn.argv[0];
  while (true) {
    feed(in, left);
    pollfd polls[4] = {{child.pidfd.get(), POLLIN, 0},
                       {streams[0].fd.get(), POLLIN, 0},
                       {streams[1].fd.get(), POLLIN, 0},
                       {in.get(), POLLOUT, 0}};
    int wait_ms = options.stop.stop_possible() ? 100 : -1;
    if (options.timeout.count() > 0) {
      const auto rest = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count() + 1;
      wait_ms = static_cast<int>(std::clamp<long>(rest, 0, wait_ms < 0 ? 3'600'000 : wait_ms));
    }
    if (::poll(polls, 4, wait_ms) < 0 && errno != EINTR) return fail_errno(errno, "poll");
    const bool ended = (polls[0].revents & POLLIN) != 0;
    for (auto& stream : streams) {
      if (stream.fd.valid()) BERTH_TRY(drain(stream, options.output_limit, program), "run");
    }
    if (ended) return {};
    if (options.stop.stop_requested()) return fail(Code::kCancelled, program + " was called off");
    if (options.timeout.count() > 0 && Clock::now() >= deadline) {
      return fail(Code::kTimeout, program + " ran longer than " + std::to_string(options.timeout.count()) + " ms",
                  ETIMEDOUT);
    }
  }
}

}  // namespace

void kill_group(const Child& child) {
  // A group without processes is none to kill.
  if (child.pid > 1) ::kill(-child.pid, SIGKILL);
}

std::optional<std::string> find_program(const std::string& name, std::string_view otherwise) {
  const auto may_run = [](const std::string& path) {
    struct stat st{};
    return ::stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode) && ::access(path.c_str(), X_OK) == 0;
  };
  if (name.find('/') != std::string::npos) return may_run(name) ? std::optional(name) : std::nullopt;
  const char* const path = ::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): as the header says
  for (const auto folder : split(path != nullptr ? std::string_view(path) : otherwise, ':')) {
    // A relative one, or an empty one that stands for the working folder, is no place to take programs from.
    if (!folder.starts_with('/')) continue;
    std::string candidate = std::string(folder) + "/" + name;
    if (may_run(candidate)) return candidate;
  }
  return std::nullopt;
}

Result<RunOutput> run(RunOptions options) {
  BERTH_ASSIGN(auto in, make_pipe(), "run");
  BERTH_ASSIGN(auto out, make_pipe(), "run");
  BERTH_ASSIGN(auto err, make_pipe(), "run");
  options.spawn.new_process_group = true;
  options.spawn.fds.push_back({in.read.get(), 0});
  options.spawn.fds.push_back({out.write.get(), 1});
  options.spawn.fds.push_back({err.write.get(), 2});
  auto child = spawn(options.spawn);
  if (!child) return fail(std::move(child).error());
  in.read.reset();
  out.write.reset();
  err.write.reset();
  for (const int fd : {in.write.get(), out.read.get(), err.read.get()}) ::fcntl(fd, F_SETFL, O_NONBLOCK);
  RunOutput output;
  Stream streams[2] = {{std::move(out.read), &output.out}, {std::move(err.read), &output.err}};
  auto pumped = pump(options, *child, in.write, streams);
  // Whether it failed or left children behind: nothing of its group goes on.
  kill_group(*child);
  auto code = wait_exit(*child);
  if (!pumped) return fail(std::move(pumped).error());
  if (!code) return fail(std::move(code).error());
  output.exit_code = *code;
  return output;
}

}  // namespace berth::os
