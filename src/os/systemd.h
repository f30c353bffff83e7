#pragma once
#include <optional>
#include <string>

#include "base/result.h"
#include "os/spawn.h"
#include "os/systemd_unit.h"

namespace berth::os {

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
  explicit NewScope(Child child, UniqueFd input) : child_(std::move(child)), input_(std::move(input)) {}

  Child child_;
  UniqueFd input_;  ///< its standard input, whose end is its own
  std::string control_group_;
};

/// Makes a scope around the process `pid`, which thereby moves there with the cgroup's limits; its control group. Those
/// that it has started before stay where they are. Errors as NewScope::start().
Result<std::string> start_scope_around(pid_t pid, const std::string& program, const SystemdUnit& unit,
                                       const UnitProperties& properties);
/// Properties of a unit that is there. Errors as NewScope::start(); nothing to set is no call.
Result<> set_unit(const std::string& program, const SystemdUnit& unit, const UnitProperties& properties);
/// Ends it: a scope with all that is in it, which is killed; a slice ends the units in it. Idempotent.
Result<> stop_unit(const std::string& program, const SystemdUnit& unit);

}  // namespace berth::os
