#pragma once
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace berth {

/// Named undo steps for things that outlive the process. On destruction, unless commit() was called, runs all of them
/// newest first, also after one has failed, and logs each failure. Not thread-safe.
class Rollback final {
 public:
  Rollback() = default;
  Rollback(const Rollback&) = delete;
  Rollback& operator=(const Rollback&) = delete;
  Rollback(Rollback&&) = delete;
  Rollback& operator=(Rollback&&) = delete;
  ~Rollback();

  /// `undo` must be idempotent and must not throw.
  void add(std::string name, std::function<Result<>()> undo);
  /// The work succeeded: forget every step.
  void commit() { steps_.clear(); }
  /// Runs and forgets every step now; returns the number of failures.
  std::size_t run();

 private:
  struct Step {
    std::string name;
    std::function<Result<>()> undo;
  };
  std::vector<Step> steps_;
};

}  // namespace berth
