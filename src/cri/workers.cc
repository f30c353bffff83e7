#include "cri/workers.h"

#include <chrono>
#include <system_error>
#include <thread>

#include "base/log.h"

namespace berth::cri {

Workers::~Workers() {
  close();
}

void Workers::post(std::function<void()> job) {
  MutexLock lock(mutex_);
  if (closing_) return;
  queue_.push_back(std::move(job));
  if (idle_ >= queue_.size() || threads_ >= options_.max_threads) {
    work_.notify_one();
    return;
  }
  try {
    std::thread([this] { run(); }).detach();
    ++threads_;
  } catch (const std::system_error& error) {
    // With another thread alive the job is only late; without any it would be lost, which the log must tell.
    log_error("cannot start a worker thread", {{"err", error.what()}, {"threads", threads_}});
    work_.notify_one();
  }
}

void Workers::run() {
  MutexLock lock(mutex_);
  for (;;) {
    while (!queue_.empty()) {
      auto job = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      job();
      job = nullptr;
      lock.lock();
    }
    if (closing_) break;
    ++idle_;
    const auto status = work_.wait_for(lock, std::chrono::seconds(options_.idle_seconds));
    --idle_;
    if (status == std::cv_status::timeout && queue_.empty()) break;
  }
  --threads_;
  if (threads_ == 0) gone_.notify_all();
}

void Workers::close() {
  MutexLock lock(mutex_);
  closing_ = true;
  work_.notify_all();
  while (threads_ > 0) gone_.wait(lock);
}

}  // namespace berth::cri
