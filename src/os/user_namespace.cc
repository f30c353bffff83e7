#include "os/user_namespace.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>

#include "os/clone.h"
#include "os/file.h"
#include "os/pidfd.h"

namespace berth::os {
namespace {

/// A process that only keeps the namespaces until they are held by descriptors. Killed and reaped with the object.
class Keeper final {
 public:
  Keeper() = default;
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  Keeper(Keeper&&) = delete;
  Keeper& operator=(Keeper&&) = delete;
  ~Keeper() {
    if (!pidfd_.valid()) return;
    ignore(pidfd_signal(pidfd_.get(), SIGKILL), "it may have ended");
    ignore(reap_pidfd(pidfd_.get()), "a child of ours that does nothing");
  }

  Result<> start(std::uint64_t flags);
  [[nodiscard]] std::string proc(const char* name) const { return "/proc/" + std::to_string(pid_) + "/" + name; }

 private:
  Pipe hold_;
  UniqueFd pidfd_;
  pid_t pid_ = -1;
};

/// The child of a program that may have other threads: a lock of the C library may be held for ever in its copy of the
/// memory, so there is nothing but system calls.
[[noreturn]] void keep(int read_end) {
  // What else the parent has open at this moment, the write end and those of other keepers among it, is not for us to
  // hold: two would wait for each other for ever.
  ::syscall(SYS_close_range, static_cast<unsigned>(read_end) + 1, ~0U, 0);
  if (read_end > 0) ::syscall(SYS_close_range, 0, static_cast<unsigned>(read_end) - 1, 0);
  char nothing = 0;
  // Until the parent kills us, or dies.
  while (::syscall(SYS_read, read_end, &nothing, 1) < 0 && errno == EINTR) {
  }
  while (true) ::syscall(SYS_exit_group, 0);
}

Result<> Keeper::start(std::uint64_t flags) {
  BERTH_ASSIGN(hold_, make_pipe(), "pipe");
  const int read_end = hold_.read.get();
  clone_args args{};
  int pidfd = -1;
  args.flags = flags | CLONE_PIDFD;
  args.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  const long pid = ::syscall(SYS_clone3, &args, sizeof args);
  if (pid == 0) keep(read_end);
  if (pid < 0) {
    const int e = errno;
    // ENOSPC: the limit of /proc/sys/user; EUSERS: too deep.
    const bool full = e == ENOSPC || e == EUSERS;
    auto error = errno_error(e, "clone3 with a user namespace");
    return fail(full ? std::move(error).as(Code::kExhausted) : std::move(error));
  }
  pid_ = static_cast<pid_t>(pid);
  pidfd_.reset(pidfd);
  return {};
}

Result<> write_map(const std::string& path, const std::string& map) {
  auto written = write_existing(path, map);
  if (!written && written.error().errno_value() == EINVAL) return fail(std::move(written).error().as(Code::kInvalid));
  return written;
}

}  // namespace

Result<UserNamespace> make_user_namespace(const std::string& uid_map, const std::string& gid_map, int more_flags) {
  Keeper keeper;
  BERTH_TRY(keeper.start(CLONE_NEWUSER | static_cast<std::uint64_t>(static_cast<unsigned>(more_flags))),
            "user namespace");
  BERTH_TRY(write_map(keeper.proc("uid_map"), uid_map), "user namespace");
  BERTH_TRY(write_map(keeper.proc("gid_map"), gid_map), "user namespace");
  UserNamespace made;
  BERTH_ASSIGN(made.user, open_file(keeper.proc("ns/user"), O_RDONLY), "user namespace");
  if ((more_flags & CLONE_NEWNET) != 0) {
    BERTH_ASSIGN(made.network, open_file(keeper.proc("ns/net"), O_RDONLY), "user namespace");
  }
  if ((more_flags & CLONE_NEWIPC) != 0) {
    BERTH_ASSIGN(made.ipc, open_file(keeper.proc("ns/ipc"), O_RDONLY), "user namespace");
  }
  if ((more_flags & CLONE_NEWUTS) != 0) {
    BERTH_ASSIGN(made.uts, open_file(keeper.proc("ns/uts"), O_RDONLY), "user namespace");
  }
  return made;
}

Result<> run_as_effective_user(uid_t uid, const std::function<Result<>()>& work) {
  const uid_t before = ::geteuid();
  if (::seteuid(uid) != 0) return fail_errno(errno, "seteuid " + std::to_string(uid));
  auto done = work();
  // Without its rights nothing of this program works as it should.
  if (::seteuid(before) != 0) std::abort();
  return done;
}

}  // namespace berth::os
