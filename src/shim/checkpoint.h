#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "shim/pod.h"

namespace berth::shim {

/// One container of a checkpoint; paths are absolute, `folder` exists and is empty. See shim.proto.
struct CheckpointTarget {
  std::string container_id;
  std::string folder;
  std::string upper;
};

struct CheckpointParams {
  std::vector<CheckpointTarget> targets;
  std::string shm_file;  ///< empty: none
  std::uint64_t timeout_ms = 0;
};

/// Checkpoints of a pod's containers, one at a time. criu takes seconds, and the shim's thread waits for nothing: a
/// child of ours freezes the containers and writes everything, and whatever ends it, they go on. Loop thread only.
class Checkpoints final {
 public:
  using Done = std::function<void(Result<>)>;
  using Wanted = std::function<bool()>;

  /// `pod` outlives this.
  explicit Checkpoints(Pod& pod);
  ~Checkpoints();
  Checkpoints(const Checkpoints&) = delete;
  Checkpoints& operator=(const Checkpoints&) = delete;
  Checkpoints(Checkpoints&&) = delete;
  Checkpoints& operator=(Checkpoints&&) = delete;

  /// Calls `done` once, when all containers go on again. Once `wanted` says no, because the caller has died, the work
  /// ends; it is asked a few times a second. Errors: kNotFound, kPrecondition a container that is not there
  /// or does not run; kUnsupported what cannot be checkpointed here, with the reason; kUnavailable another checkpoint
  /// is being made; kTimeout with the step; kInvalid; else what failed.
  void run(const CheckpointParams& params, Done done, Wanted wanted);

 private:
  struct Job;
  Result<> begin(const CheckpointParams& params, Job& job) const;
  Result<> start_worker(const CheckpointParams& params, Job& job);
  void give_up(bool timed_out);
  void ended(int code);
  void finish(int looks);

  Pod& pod_;
  std::unique_ptr<Job> job_;
};

}  // namespace berth::shim
