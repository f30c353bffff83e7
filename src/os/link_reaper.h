#pragma once
#include <atomic>
#include <condition_variable>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "os/netlink.h"

namespace berth::os {

/// Deletes links without waiting for the kernel's grace periods. RTM_DELLINK returns only after an RCU barrier, some 20
/// ms after the link has vanished from every list. Here a thread sits in that call while the caller goes on as soon as
/// the kernel has announced the deletion. Deletions that come while one is under way are done together, by a link
/// group, at the cost of one. Thread-safe. The destructor waits for the calls under way.
class LinkReaper final {
 public:
  LinkReaper() = default;
  LinkReaper(const LinkReaper&) = delete;
  LinkReaper& operator=(const LinkReaper&) = delete;
  LinkReaper(LinkReaper&&) = delete;
  LinkReaper& operator=(LinkReaper&&) = delete;
  ~LinkReaper();

  /// On success no link of that name is left in the calling thread's network namespace; absent is success. Blocks for
  /// the deletion, not for the grace period. Calls from threads in different namespaces must not share one reaper.
  Result<> remove(const std::string& name);

 private:
  struct Ticket {
    std::string name;
    bool done = false;
    Result<> result;
  };
  struct Call {
    explicit Call(NetlinkSocket opened) : socket(std::move(opened)) {}
    NetlinkSocket socket;
    NetlinkBatch batch;
    std::thread thread;
    std::atomic<bool> finished = false;
  };
  Result<> run(const std::vector<Ticket*>& tickets) BERTH_EXCLUDES(mutex_);
  static void watch(Call& call, std::size_t last, std::vector<std::string>& left, Result<>& result);
  void start(const std::shared_ptr<Call>& call) BERTH_EXCLUDES(mutex_);

  Mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<Ticket*> queue_ BERTH_GUARDED_BY(mutex_);
  bool led_ BERTH_GUARDED_BY(mutex_) = false;  ///< one of the callers does the queue's work
  std::list<std::shared_ptr<Call>> calls_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::os
