#pragma once
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/thread_annotations.h"
#include "cri/service.h"
#include "cri/timeline.h"
#include "cri/workers.h"

namespace berth::cri {

/// One running change of a pod or container. It outlives the call that asked for it, and further calls that ask for the
/// same join it. Thread-safe.
class Operation final {
 public:
  explicit Operation(std::string title) : title_(std::move(title)) {}

  [[nodiscard]] const std::string& title() const { return title_; }
  /// Which pod, and which container of it if any, this is about: for the pod's timeline.
  void about(std::string sandbox_id, std::string container_id = {}) BERTH_EXCLUDES(mutex_);
  /// "step: stat volume /mnt/x, 41 s": the stage that has been running longest.
  [[nodiscard]] std::string current_step() const BERTH_EXCLUDES(mutex_);

 private:
  friend class Stage;
  friend class Operations;
  struct Active {
    unsigned id;
    std::string name;
    SteadyTime since;
  };
  unsigned enter(std::string name) BERTH_EXCLUDES(mutex_);
  void leave(unsigned id, TimelineEntry entry) BERTH_EXCLUDES(mutex_);

  const std::string title_;
  const SteadyTime since_ = std::chrono::steady_clock::now();
  const std::int64_t at_ns_ = wall_now_ns();
  mutable Mutex mutex_;
  std::condition_variable_any done_;
  std::vector<Active> active_ BERTH_GUARDED_BY(mutex_);
  unsigned next_id_ BERTH_GUARDED_BY(mutex_) = 1;
  std::string sandbox_id_ BERTH_GUARDED_BY(mutex_);
  std::string container_id_ BERTH_GUARDED_BY(mutex_);
  std::vector<TimelineEntry> steps_ BERTH_GUARDED_BY(mutex_);  ///< that are over
  std::optional<Result<std::string>> result_ BERTH_GUARDED_BY(mutex_);
};

/// A stage of an operation, from construction to destruction: what a deadline names, what the pod's timeline lists, and
/// the one place where stages and their durations are logged.
class Stage final {
 public:
  /// `object`: what it works on (an id, a path); may be empty.
  Stage(Operation& operation, std::string_view name, std::string_view object = {});
  ~Stage();
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;
  Stage(Stage&&) = delete;
  Stage& operator=(Stage&&) = delete;

 private:
  Operation& operation_;
  std::string name_;
  SteadyTime since_;
  std::int64_t at_ns_;
  unsigned id_;
};

/// The operations that are running, by key. Thread-safe.
class Operations final {
 public:
  using Body = std::function<Result<std::string>(Operation& operation)>;

  /// `timelines` is told of each operation that is over and knows its pod; nullptr: nobody.
  explicit Operations(Workers& workers, Timelines* timelines = nullptr) : workers_(workers), timelines_(timelines) {}

  /// Joins the running operation `key`, or starts `body` as a new one on a worker, and waits for its result.
  /// Errors: what `body` answers; kTimeout at the call's deadline, naming the current step, and kCancelled when the
  /// client has gone: in both cases the operation goes on.
  Result<std::string> run(const std::string& key, const std::string& title, const Call& call, Body body)
      BERTH_EXCLUDES(mutex_);
  /// Starts `body` unless `key` is running. Does not wait.
  void start(const std::string& key, const std::string& title, Body body) BERTH_EXCLUDES(mutex_);

 private:
  std::shared_ptr<Operation> join_or_start(const std::string& key, const std::string& title, Body body)
      BERTH_EXCLUDES(mutex_);

  void finish(Operation& operation, Result<std::string> result);

  Workers& workers_;
  Timelines* timelines_;
  Mutex mutex_;
  std::map<std::string, std::shared_ptr<Operation>, std::less<>> running_ BERTH_GUARDED_BY(mutex_);
};

/// One operation at a time, in the order of asking; who waits is told whom for. Thread-safe.
class OperationLock final {
 public:
  /// Waits until the lock is free, as a stage of `operation`, and holds it until unlock().
  void lock(Operation& operation) BERTH_EXCLUDES(mutex_);
  void unlock() BERTH_EXCLUDES(mutex_);

  class Guard final {
   public:
    Guard(OperationLock& lock, Operation& operation) : lock_(lock) { lock_.lock(operation); }
    ~Guard() { lock_.unlock(); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    Guard(Guard&&) = delete;
    Guard& operator=(Guard&&) = delete;

   private:
    OperationLock& lock_;
  };

 private:
  Mutex mutex_;
  std::condition_variable_any free_;
  std::uint64_t next_ticket_ BERTH_GUARDED_BY(mutex_) = 0;
  std::uint64_t serving_ BERTH_GUARDED_BY(mutex_) = 0;
  std::string holder_ BERTH_GUARDED_BY(mutex_);  // the title of the operation that holds it
};

}  // namespace berth::cri
