#include "shim/reaper.h"

#include <sys/prctl.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>

namespace berth::shim {

Result<> Reaper::start() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) return fail_errno(errno, "prctl PR_SET_CHILD_SUBREAPER");
  BERTH_ASSIGN(watch_, loop_.watch_signals({SIGCHLD}, [this](const signalfd_siginfo&) { reap(); }), "watch SIGCHLD");
  return {};
}

void Reaper::reap() {
  // SIGCHLDs merge: one may stand for many.
  for (;;) {
    siginfo_t info{};
    if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG) != 0) {
      if (errno == EINTR) continue;
      return;
    }
    if (info.si_pid == 0) return;
    const auto found = callbacks_.find(info.si_pid);
    if (found == callbacks_.end()) continue;
    const Callback callback = std::move(found->second);
    callbacks_.erase(found);
    callback(info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status);
  }
}

void Reaper::ended(pid_t pid, int code) {
  reap();
  const auto found = callbacks_.find(pid);
  if (found == callbacks_.end()) return;
  const Callback callback = std::move(found->second);
  callbacks_.erase(found);
  callback(code);
}

}  // namespace berth::shim
