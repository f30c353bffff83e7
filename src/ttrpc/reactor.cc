#include "ttrpc/reactor.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <latch>
#include <system_error>

#include "base/log.h"

namespace berth::ttrpc {

Result<std::unique_ptr<Reactor>> Reactor::create() {
  BERTH_ASSIGN(std::unique_ptr<event::Loop> loop, event::Loop::create(), "ttrpc reactor");
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail_errno(errno, "eventfd");
  std::unique_ptr<Reactor> reactor(new Reactor(std::move(loop), std::move(wake)));
  BERTH_TRY(reactor->start(), "ttrpc reactor");
  return reactor;
}

Result<> Reactor::start() {
  Reactor* self = this;
  BERTH_TRY(loop_->add_fd(wake_.get(), EPOLLIN, [self](std::uint32_t) { self->run_posted(); }), "watch the eventfd");
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  // The thread inherits the mask, so there is no moment in which a signal finds it.
  if (const int error = ::pthread_sigmask(SIG_SETMASK, &all, &before); error != 0) return fail_errno(error, "sigmask");
  int error = 0;
  try {
    thread_ = std::thread([self]() {
      if (auto ran = self->loop_->run(); !ran) log_error("ttrpc reactor ended", {{"err", ran.error().text()}});
    });
  } catch (const std::system_error& thrown) {
    error = thrown.code().value();
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) return fail_errno(error, "start a thread");
  ::pthread_setname_np(thread_.native_handle(), "ttrpc");
  return {};
}

Reactor::~Reactor() {
  if (!thread_.joinable()) return;
  post([this]() { loop_->stop(); });
  thread_.join();
}

void Reactor::post(std::function<void()> function) {
  bool first = false;
  {
    MutexLock lock(mutex_);
    first = posted_.empty();
    posted_.push_back(std::move(function));
  }
  if (!first) return;
  // Cannot fail: the counter would have to overflow, and only the first post after each read adds to it.
  const std::uint64_t one = 1;
  if (::write(wake_.get(), &one, sizeof(one)) != sizeof(one)) log_error("ttrpc reactor cannot be woken");
}

void Reactor::run_posted() {
  std::uint64_t count = 0;
  // Before the queue is taken: what is posted from here on wakes again.
  if (::read(wake_.get(), &count, sizeof(count)) < 0 && errno != EAGAIN) log_error("ttrpc reactor eventfd");
  std::vector<std::function<void()>> functions;
  {
    MutexLock lock(mutex_);
    functions.swap(posted_);
  }
  for (auto& function : functions) {
    function();
    function = nullptr;
  }
}

void Reactor::drain() {
  std::latch done(1);
  post([&done]() { done.count_down(); });
  done.wait();
}

}  // namespace berth::ttrpc
