#pragma once
#include <condition_variable>
#include <set>
#include <string>

#include "base/thread_annotations.h"

namespace berth::network {

/// Lets one call at a time in for each sandbox, so that an add() and a remove() of the same pod never interleave. Calls
/// for different sandboxes do not wait for each other. Thread-safe.
class SandboxGate final {
 public:
  class Pass final {
   public:
    Pass(SandboxGate& gate, std::string id) : gate_(gate), id_(std::move(id)) { gate_.enter(id_); }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    Pass(Pass&&) = delete;
    Pass& operator=(Pass&&) = delete;
    ~Pass() { gate_.leave(id_); }

   private:
    SandboxGate& gate_;
    const std::string id_;
  };

 private:
  void enter(const std::string& id) {
    MutexLock hold(mutex_);
    while (!inside_.insert(id).second) left_.wait(hold);
  }
  void leave(const std::string& id) {
    {
      const MutexLock hold(mutex_);
      inside_.erase(id);
    }
    left_.notify_all();
  }

  Mutex mutex_;
  std::condition_variable_any left_;
  std::set<std::string> inside_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::network
