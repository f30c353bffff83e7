#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "spec/runtime.h"

namespace berth::spec {

enum class Status : std::uint8_t { kCreating, kCreated, kRunning, kStopped, kPaused };

/// "creating", "created", "running", "stopped"; "paused" is not in the specification, runc and crun report it.
[[nodiscard]] std::string_view status_name(Status status);

/// The container state that `state` prints and that hooks read on stdin. Source: runtime-spec runtime.md "State".
struct State {
  std::string oci_version{};
  std::string id{};
  Status status = Status::kCreating;
  std::int64_t pid = 0;  ///< 0: absent; only created, running and paused containers have one
  std::string bundle{};  ///< absolute
  StringMap annotations{};
  Extra extra{};
  bool operator==(const State&) const = default;
};

/// Errors as parse_spec (runtime.h); also kInvalid for an unknown status. Unknown members are kept.
[[nodiscard]] Result<State> parse_state(std::string_view json, const Limits& limits = {});
[[nodiscard]] std::string write_state(const State& state);

}  // namespace berth::spec
