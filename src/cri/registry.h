#pragma once
#include <condition_variable>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/thread_annotations.h"
#include "cri/events.h"
#include "cri/records.h"
#include "cri/state_db.h"

namespace berth::cri {

/// All records in memory, and the one way to change them: database first, then the copy that readers see. Readers take
/// a lock that nobody holds over anything slow. Thread-safe.
class Registry final {
 public:
  explicit Registry(StateDb& db) : db_(db) {}

  // ---- reading: from memory ----
  [[nodiscard]] SandboxPtr sandbox(std::string_view id) const BERTH_EXCLUDES(mutex_);
  [[nodiscard]] ContainerPtr container(std::string_view id) const BERTH_EXCLUDES(mutex_);
  /// By id or an unambiguous beginning of one. Errors: kNotFound; kInvalid empty or ambiguous.
  [[nodiscard]] Result<SandboxPtr> find_sandbox(std::string_view id) const BERTH_EXCLUDES(mutex_);
  [[nodiscard]] Result<ContainerPtr> find_container(std::string_view id) const BERTH_EXCLUDES(mutex_);
  /// Sorted by id.
  [[nodiscard]] std::vector<SandboxPtr> sandboxes() const BERTH_EXCLUDES(mutex_);
  [[nodiscard]] std::vector<ContainerPtr> containers() const BERTH_EXCLUDES(mutex_);
  [[nodiscard]] std::vector<ContainerPtr> containers_of(std::string_view sandbox_id) const BERTH_EXCLUDES(mutex_);

  /// Waits until `ready` holds of the container (absent: nullptr). False at the deadline.
  bool wait_container(std::string_view id, SteadyTime deadline,
                      const std::function<bool(const ContainerRecord*)>& ready) const BERTH_EXCLUDES(mutex_);

  /// Tells `sink` the state of everything, and then each change, until unfollow(). `sink` is called under the readers'
  /// lock.
  std::uint64_t follow(EventSink sink) BERTH_EXCLUDES(mutex_);
  void unfollow(std::uint64_t follower) BERTH_EXCLUDES(mutex_);

  // ---- writing: durable when it returns ----
  Result<> add(SandboxRecord record) BERTH_EXCLUDES(write_mutex_, mutex_);
  Result<> add(ContainerRecord record) BERTH_EXCLUDES(write_mutex_, mutex_);
  /// Applies `change` to a copy of the record and stores it. `change` answers false to leave everything as it is.
  /// Answers the record in force afterwards. Errors: kNotFound; of the database.
  Result<SandboxPtr> update_sandbox(const std::string& id, const std::function<bool(SandboxRecord&)>& change)
      BERTH_EXCLUDES(write_mutex_, mutex_);
  Result<ContainerPtr> update_container(const std::string& id, const std::function<bool(ContainerRecord&)>& change)
      BERTH_EXCLUDES(write_mutex_, mutex_);
  /// Absent is success.
  Result<> erase_sandbox(const std::string& id) BERTH_EXCLUDES(write_mutex_, mutex_);
  Result<> erase_container(const std::string& id) BERTH_EXCLUDES(write_mutex_, mutex_);
  /// At start: what is in the database. Answers one message for each record that cannot be read.
  /// `timelines`: filled with what is there of them.
  Result<std::vector<std::string>> load(std::vector<Timeline>& timelines) BERTH_EXCLUDES(write_mutex_, mutex_);

 private:
  void keep(const SandboxPtr& record) BERTH_REQUIRES(mutex_) { sandboxes_[record->id] = record; }
  void keep(const ContainerPtr& record) BERTH_REQUIRES(mutex_);
  [[nodiscard]] std::vector<ContainerPtr> shown_containers(std::string_view sandbox_id) const BERTH_REQUIRES(mutex_);
  void tell(const SandboxPtr& before, const SandboxPtr& after) BERTH_REQUIRES(mutex_);
  void tell(const ContainerPtr& before, const ContainerPtr& after) BERTH_REQUIRES(mutex_);
  /// Numbers the events of a change and tells them; `sandbox` nullptr: as it is now.
  void tell(const std::vector<pb::ContainerEventType>& types, const std::string& object, const std::string& sandbox_id,
            const SandboxPtr& sandbox) BERTH_REQUIRES(mutex_);

  template <class Record>
  using Records = std::map<std::string, std::shared_ptr<const Record>, std::less<>>;
  template <class Record>
  Result<> publish(Record record, Records<Record> Registry::* map) BERTH_REQUIRES(write_mutex_) BERTH_EXCLUDES(mutex_);

  StateDb& db_;
  Mutex write_mutex_;  // taken before mutex_; held over a database write
  mutable Mutex mutex_;
  mutable std::condition_variable_any changed_;
  Records<SandboxRecord> sandboxes_ BERTH_GUARDED_BY(mutex_);
  Records<ContainerRecord> containers_ BERTH_GUARDED_BY(mutex_);
  // The same by sandbox: what is asked of each pod must not look at the containers of all.
  std::map<std::string, Records<ContainerRecord>, std::less<>> by_sandbox_ BERTH_GUARDED_BY(mutex_);
  std::map<std::uint64_t, EventSink> followers_ BERTH_GUARDED_BY(mutex_);
  std::uint64_t next_follower_ BERTH_GUARDED_BY(mutex_) = 1;
  std::uint64_t next_event_ BERTH_GUARDED_BY(mutex_) = 1;
};

}  // namespace berth::cri
