#pragma once
#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::shim {

/// The pid namespace that the containers of a pod share, by its first process (pod_init_program.cc): a child of ours
/// that reaps orphans, sits in an empty read-only root, and is a user without privileges. It dies with this process,
/// and everything in the namespace dies with it. Source: pid_namespaces(7).
class PodInit final {
 public:
  /// Starts it; returns when its program runs. For a process with one thread, whose children must not be reaped by
  /// anybody meanwhile. Errors: by errno, naming the step.
  /// `user_namespace`: borrowed, whose pid namespace it is then; -1: ours.
  [[nodiscard]] static Result<PodInit> start(int user_namespace);
  PodInit(PodInit&&) noexcept = default;
  PodInit& operator=(PodInit&&) noexcept = delete;
  PodInit(const PodInit&) = delete;
  PodInit& operator=(const PodInit&) = delete;
  /// Ends and reaps it, unless that has been told by ended(); with it whoever of its namespace is a child of ours. At
  /// most two seconds: a task that no signal ends holds it up.
  ~PodInit();

  [[nodiscard]] pid_t pid() const { return pid_; }
  /// Whether `path` (/proc/PID/ns/pid) leads to this namespace.
  [[nodiscard]] bool is_namespace(const std::string& path) const;
  /// Whether it has ended or is just ending: the kernel ends everything in the namespace first, so its other processes
  /// are reaped before it.
  [[nodiscard]] bool ending() const;
  /// Its end was collected. `code`: exit code, or 128 + signal.
  void ended(int code);
  /// "the pod's init (pid 12) was killed by signal 9" once it has ended, else "".
  [[nodiscard]] const std::string& end() const { return end_; }

 private:
  PodInit() = default;

  pid_t pid_ = 0;
  UniqueFd pidfd_;
  UniqueFd namespace_;
  std::string end_;
};

}  // namespace berth::shim
