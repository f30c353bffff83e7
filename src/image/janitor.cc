#include "image/janitor.h"

#include <system_error>
#include <utility>

namespace berth::image {

Janitor::~Janitor() {
  std::jthread last;
  {
    const MutexLock lock(mutex_);
    last = std::move(thread_);
  }
  // `last` joins here, outside the lock that the thread still takes.
}

void Janitor::post(std::function<void()> task) {
  {
    const MutexLock lock(mutex_);
    tasks_.push_back(std::move(task));
    if (running_) return;
    try {
      // The thread before has let go of the lock for good, so the join that assignment does is short.
      thread_ = std::jthread([this] { work(); });
      running_ = true;
      return;
    } catch (const std::system_error&) {
      running_ = true;
    }
  }
  work();
}

void Janitor::work() {
  for (;;) {
    std::function<void()> task;
    {
      const MutexLock lock(mutex_);
      if (tasks_.empty()) {
        running_ = false;
        return;
      }
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace berth::image
