#pragma once
#include <optional>
#include <string>

#include "base/result.h"
#include "engine/process/systemd_unit.h"
#include "os/spawn.h"

namespace berth::engine::process {

/// A scope that was just made and has nobody in it but the program that made it, berth-scope. Destroying the object
/// ends that one: an empty scope is dropped by systemd, one with a container in it stays.
class NewScope final {
 public:
  /// `program`: berth-scope, a path or a name to be found in PATH. Blocks on systemd, for half a minute at most.
  /// Errors: kUnsupported no such program; kUnavailable no systemd to talk to; kExists a unit of that name is there;
  /// kDenied; kInvalid a property that systemd refuses.
  static Result<NewScope> start(const std::string& program, const SystemdUnit& unit, const UnitProperties& properties);
  NewScope(const NewScope&) = delete;
  NewScope& operator=(const NewScope&) = delete;
  NewScope(NewScope&&) = default;
  NewScope& operator=(NewScope&&) = delete;
  ~NewScope();

  /// Its path below the cgroup hierarchies, as systemd says.
  [[nodiscard]] const std::string& control_group() const { return control_group_; }

 private:
  explicit NewScope(os::Child child, UniqueFd input) : child_(std::move(child)), input_(std::move(input)) {}

  os::Child child_;
  UniqueFd input_;  ///< its standard input, whose end is its own
  std::string control_group_;
};

/// Properties of a scope that is there. Errors as NewScope::start(); nothing to set is no call.
Result<> set_scope(const std::string& program, const SystemdUnit& unit, const UnitProperties& properties);
/// Kills what is in it and ends it. Idempotent.
Result<> stop_scope(const std::string& program, const SystemdUnit& unit);

}  // namespace berth::engine::process
