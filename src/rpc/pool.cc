#include "rpc/pool.h"

#include <pthread.h>

#include <chrono>
#include <system_error>
#include <thread>

#include "base/log.h"

namespace berth::rpc {

Pool::~Pool() {
  MutexLock lock(mutex_);
  closing_ = true;
  work_.notify_all();
  while (threads_ > 0) gone_.wait(lock);
}

bool Pool::submit(std::function<void()> job) {
  MutexLock lock(mutex_);
  if (closing_ || queue_.size() >= options_.max_queue) return false;
  queue_.push_back(std::move(job));
  if (idle_ >= queue_.size() || threads_ >= options_.max_threads) {
    work_.notify_one();
    return true;
  }
  try {
    std::thread(&Pool::run, this).detach();  // counted in threads_; the destructor waits for all
    ++threads_;
  } catch (const std::system_error& e) {
    log_warn("no further worker thread", {{"pool", options_.name}, {"err", e.what()}});
    if (threads_ == 0) {
      queue_.pop_back();
      return false;
    }
  }
  return true;
}

void Pool::run() {
  ::pthread_setname_np(::pthread_self(), options_.name.c_str());
  MutexLock lock(mutex_);
  while (true) {
    if (queue_.empty()) {
      if (closing_) break;
      ++idle_;
      const auto woken = work_.wait_for(lock, std::chrono::seconds(options_.idle_seconds));
      --idle_;
      if (queue_.empty() && (closing_ || woken == std::cv_status::timeout)) break;
      continue;
    }
    auto job = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    job();
    job = nullptr;
    lock.lock();
  }
  --threads_;
  gone_.notify_all();
}

}  // namespace berth::rpc
