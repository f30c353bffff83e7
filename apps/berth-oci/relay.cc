#include "relay.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "base/log.h"
#include "os/clone.h"
#include "os/file.h"
#include "os/pidfd.h"

namespace berth::oci {

Relay::~Relay() {
  if (old_mode_) ::tcsetattr(0, TCSANOW, &*old_mode_);
}

Result<> Relay::catch_signals() {
  sigset_t all;
  sigfillset(&all);
  // Faults of this program, its own job control and SIGCHLD (the process is waited for by its pidfd) stay with it.
  for (const int own :
       {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU, SIGCHLD, SIGPIPE, SIGURG}) {
    sigdelset(&all, own);
  }
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &all, nullptr); error != 0)
    return fail_errno(error, "block signals");
  signals_.reset(::signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_.valid()) return fail_errno(errno, "signalfd");
  return {};
}

Result<> Relay::hand_on_signals(const engine::Process& process) {
  while (true) {
    signalfd_siginfo info{};
    const ssize_t n = ::read(signals_.get(), &info, sizeof info);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return {};
    if (n != sizeof info) return fail_errno(errno, "read a signal");
    if (info.ssi_signo == SIGWINCH) {
      copy_window_size();
    } else {
      ignore(os::pidfd_signal(process.pidfd.get(), static_cast<int>(info.ssi_signo)), "it may have ended");
    }
  }
}

void Relay::set_raw() {
  termios mode{};
  if (::tcgetattr(0, &mode) != 0) return;  // stdin is no terminal
  old_mode_ = mode;
  ::cfmakeraw(&mode);
  ::tcsetattr(0, TCSANOW, &mode);
}

void Relay::copy_window_size() const {
  winsize size{};
  if (console_.valid() && ::ioctl(0, TIOCGWINSZ, &size) == 0) ::ioctl(console_.get(), TIOCSWINSZ, &size);
}

bool Relay::copy(int from, int to) {
  std::array<char, 32768> buffer;
  ssize_t n = 0;
  do {
    n = ::read(from, buffer.data(), buffer.size());
  } while (n < 0 && errno == EINTR);
  if (n < 0 && errno == EAGAIN) return true;
  if (n <= 0) return false;  // a terminal whose last user is gone says EIO
  return os::write_all(to, {buffer.data(), static_cast<std::size_t>(n)}).has_value();
}

void Relay::drain_console() {
  // The program has ended; what it wrote is still in the terminal. Others may hold it open for ever: take what is
  // there.
  ::fcntl(console_.get(), F_SETFL, O_NONBLOCK);
  while (true) {
    pollfd entry{console_.get(), POLLIN, 0};
    if (::poll(&entry, 1, 0) <= 0 || (entry.revents & POLLIN) == 0) return;
    if (!copy(console_.get(), 1)) return;
  }
}

Result<int> Relay::run(const engine::Process& process, UniqueFd console, NotifySocket* notify) {
  console_ = std::move(console);
  if (console_.valid()) {
    set_raw();
    copy_window_size();
  }
  std::array<pollfd, 5> entries{{{process.pidfd.get(), POLLIN, 0},
                                 {signals_.get(), POLLIN, 0},
                                 {console_.get(), POLLIN, 0},
                                 {console_.valid() ? 0 : -1, POLLIN, 0},
                                 {notify != nullptr ? notify->fd() : -1, POLLIN, 0}}};
  while (true) {
    if (::poll(entries.data(), entries.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, "poll");
    }
    if (entries[1].revents != 0) BERTH_TRY(hand_on_signals(process), "signals");
    if (entries[2].revents != 0 && !copy(console_.get(), 1)) entries[2].fd = -1;
    if (entries[3].revents != 0 && !copy(0, console_.get())) entries[3].fd = -1;
    if (entries[4].revents != 0) {
      const auto told = notify->hand_on(process.pid);
      if (!told) log_warn("readiness is not told", {{"err", told.error().text()}});
      if (!told || *told) entries[4].fd = -1;
    }
    if (entries[0].revents != 0) break;
  }
  if (console_.valid()) drain_console();
  return os::reap_pidfd(process.pidfd.get());
}

}  // namespace berth::oci
