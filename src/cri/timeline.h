#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"

namespace berth::cri {

/// One thing that happened to a pod: an operation's step, an operation's end, or an event of a container.
struct TimelineEntry {
  std::int64_t at_ns = 0;  ///< when it began, Unix epoch
  std::int64_t took_us = 0;
  std::string operation;  ///< "StartContainer 5f2c..."; of an event what it is about
  std::string step;       ///< empty: the operation as a whole
  std::string error;      ///< empty: it went well
  bool operator==(const TimelineEntry&) const = default;
};

/// What happened to one pod and its containers, oldest first.
struct Timeline {
  std::string sandbox_id;
  std::string pod_namespace;
  std::string pod_name;
  std::vector<std::string> containers;  ///< ids of all that there were, at most kMaxContainers
  bool removed = false;
  std::uint64_t left_out = 0;  ///< entries from the middle that went for want of room
  std::deque<TimelineEntry> entries;

  static constexpr std::size_t kMaxEntries = 256;
  static constexpr std::size_t kMaxContainers = 64;
  static constexpr std::size_t kMaxText = 1024;  ///< of each text of an entry; longer ones are cut
};

[[nodiscard]] std::string encode(const Timeline& timeline);
[[nodiscard]] Result<Timeline> decode_timeline(std::string_view blob);

/// The timelines of all pods and of the last 200 removed ones. Thread-safe. `store` and `forget` are called one at a
/// time, in the order of the changes; find() does not wait for them.
class Timelines final {
 public:
  static constexpr std::size_t kMaxRemoved = 200;
  /// What is handed to `store` survives a restart; `forget` takes it back.
  struct Disk {
    std::function<void(const std::string& id, const std::string& blob)> store;
    std::function<void(const std::string& id)> forget;
  };
  explicit Timelines(Disk disk) : disk_(std::move(disk)) {}

  /// Before the first note(): what an earlier daemon stored. A pod that is not `there` any more counts as removed.
  void load(std::vector<Timeline> stored, const std::function<bool(const std::string& id)>& there)
      BERTH_EXCLUDES(disk_mutex_, mutex_);
  /// A pod is on its way.
  void begin(const std::string& sandbox_id, const std::string& pod_namespace, const std::string& pod_name)
      BERTH_EXCLUDES(mutex_);
  /// Adds to the pod's timeline and stores it; an unknown pod is passed over. `container_id` may be empty.
  void note(const std::string& sandbox_id, const std::string& container_id, std::vector<TimelineEntry> entries)
      BERTH_EXCLUDES(disk_mutex_, mutex_);
  /// The pod is gone; its timeline stays while it is among the last ones. Unknown is fine.
  void removed(const std::string& sandbox_id) BERTH_EXCLUDES(disk_mutex_, mutex_);
  /// By sandbox or container id (or a beginning of at least 4 characters), pod name, or "namespace/name": all that
  /// match, oldest first.
  [[nodiscard]] std::vector<Timeline> find(std::string_view object) const BERTH_EXCLUDES(mutex_);

 private:
  struct Held {
    Timeline timeline;
    std::uint64_t order = 0;  ///< of its beginning
  };
  void drop_oldest_removed() BERTH_REQUIRES(disk_mutex_) BERTH_EXCLUDES(mutex_);

  const Disk disk_;
  Mutex disk_mutex_;  // taken before mutex_: what is stored last is what was noted last
  mutable Mutex mutex_;
  std::map<std::string, Held, std::less<>> held_ BERTH_GUARDED_BY(mutex_);
  std::deque<std::string> removed_ BERTH_GUARDED_BY(mutex_);  ///< ids, oldest first
  std::uint64_t next_order_ BERTH_GUARDED_BY(mutex_) = 1;
};

}  // namespace berth::cri
