#pragma once
#include <sys/types.h>

#include <memory>
#include <string>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "base/unique_fd.h"
#include "cri/operation.h"
#include "cri/shim_link.h"

namespace berth::cri {

/// What the daemon holds of a pod that lives: the connection to its shim and the shim as a process. Thread-safe.
class Pod final {
 public:
  explicit Pod(std::string id) : id_(std::move(id)) {}

  [[nodiscard]] const std::string& id() const { return id_; }

  /// Held by what changes the pod or makes, starts and removes its containers. Not by reads, stops, execs and updates.
  OperationLock turn;

  /// The shim is there. `pidfd` names it; it may be a child of ours or of an earlier daemon.
  void attach(std::shared_ptr<ShimLink> link, UniqueFd pidfd, pid_t pid) BERTH_EXCLUDES(mutex_);
  /// A new connection to the same shim.
  void reconnect(std::shared_ptr<ShimLink> link) BERTH_EXCLUDES(mutex_);
  /// kUnavailable when the shim is gone or cannot be reached.
  [[nodiscard]] Result<std::shared_ptr<ShimLink>> link() const BERTH_EXCLUDES(mutex_);
  /// A descriptor of the shim's process, to be kept; invalid when there is none.
  [[nodiscard]] UniqueFd pidfd() const BERTH_EXCLUDES(mutex_);
  [[nodiscard]] pid_t shim_pid() const BERTH_EXCLUDES(mutex_);

  /// From here on the end of the shim is what we want, not an accident.
  void expect_end() BERTH_EXCLUDES(mutex_);
  [[nodiscard]] bool end_expected() const BERTH_EXCLUDES(mutex_);
  /// The shim has ended: closes the connection and forgets the process.
  void detach() BERTH_EXCLUDES(mutex_);

 private:
  const std::string id_;
  mutable Mutex mutex_;
  std::shared_ptr<ShimLink> link_ BERTH_GUARDED_BY(mutex_);
  UniqueFd pidfd_ BERTH_GUARDED_BY(mutex_);
  pid_t pid_ BERTH_GUARDED_BY(mutex_) = 0;
  bool end_expected_ BERTH_GUARDED_BY(mutex_) = false;
};

}  // namespace berth::cri
