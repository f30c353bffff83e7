#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "engine/engine.h"
#include "shim/process_io.h"
#include "spec/runtime.h"

namespace berth::shim {

// kCreated --start--> kRunning --exit--> kStopped; kRunning <--pause/resume--> kPaused (a paused one can be killed,
// too). A start that fails leads from kCreated to kStopped.
enum class ProcessState : std::uint8_t { kCreated, kRunning, kPaused, kStopped };

/// A container's first process, or one that Exec added.
struct TaskProcess {
  ProcessState state = ProcessState::kCreated;
  pid_t pid = 0;   ///< 0 before it exists
  UniqueFd pidfd;  ///< of an exec; init's is the engine's
  std::uint32_t exit_code = 0;
  std::int64_t exited_at_ns = 0;
  StdioPaths stdio;
  std::unique_ptr<ProcessIo> io;
  std::unique_ptr<spec::Process> to_start;  ///< of an exec before its start
  std::vector<std::function<void(const TaskProcess&)>> waiters;

  /// Marks the end and answers everybody who waits for it.
  void stopped(std::uint32_t code, std::int64_t at_ns);
};

struct Container {
  std::string id;
  std::string bundle;
  std::unique_ptr<engine::Container> engine;
  TaskProcess init;
  std::map<std::string, TaskProcess, std::less<>> execs;
  bool own_pid_namespace = true;             ///< its processes go with init
  bool pod_pids = false;                     ///< it is in the pid namespace of the pod's init
  std::weak_ptr<const Container> pid_owner;  ///< in whose pid namespace it is, when that is another container's
  std::string pid_owner_id;                  ///< empty: nobody else's
  bool checkpointing = false;                ///< frozen, or about to be: nothing new can begin in it
  bool oom_killed = false;
  std::string reason;
  std::string message;  ///< more than `reason`, for people; may be empty
  std::int64_t created_at_ns = 0;
  std::int64_t started_at_ns = 0;
  std::uint64_t changed_seq = 0;
};

}  // namespace berth::shim
