#include "cri/pod.h"

#include "os/file.h"

namespace berth::cri {

void Pod::attach(std::shared_ptr<ShimLink> link, UniqueFd pidfd, pid_t pid) {
  MutexLock hold(mutex_);
  link_ = std::move(link);
  pidfd_ = std::move(pidfd);
  pid_ = pid;
}

void Pod::reconnect(std::shared_ptr<ShimLink> link) {
  MutexLock hold(mutex_);
  link_ = std::move(link);
}

Result<std::shared_ptr<ShimLink>> Pod::link() const {
  MutexLock hold(mutex_);
  if (!link_) return fail(Code::kUnavailable, "the shim of pod " + id_ + " is not running");
  return link_;
}

UniqueFd Pod::pidfd() const {
  MutexLock hold(mutex_);
  if (!pidfd_) return {};
  auto copy = os::dup_fd(pidfd_.get());
  return copy ? std::move(*copy) : UniqueFd();
}

pid_t Pod::shim_pid() const {
  MutexLock hold(mutex_);
  return pid_;
}

void Pod::expect_end() {
  MutexLock hold(mutex_);
  end_expected_ = true;
}

bool Pod::end_expected() const {
  MutexLock hold(mutex_);
  return end_expected_;
}

void Pod::detach() {
  std::shared_ptr<ShimLink> link;
  {
    MutexLock hold(mutex_);
    link = std::move(link_);
    link_ = nullptr;
    pidfd_.reset();
    pid_ = 0;
  }
  if (link) link->close();
}

}  // namespace berth::cri
