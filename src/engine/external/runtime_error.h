#pragma once
#include <string>
#include <string_view>

#include "base/error.h"

namespace berth::engine::external {

/// The failure that a runtime wrote to its `--log` in JSON: the last entry of level "error" or "fatal" of `log`; when
/// it has none, `otherwise`. Entries that are no JSON are passed over.
[[nodiscard]] std::string last_error(std::string_view log, std::string_view otherwise);

/// What runc's and crun's texts mean: kNotFound with ENOENT a program that is not in the container, kDenied with EACCES
/// one that is not executable, ENOEXEC one of another format, kNotFound a container or process that is gone; else
/// kInternal.
[[nodiscard]] Error classify(std::string text);

/// crun: no v2 hierarchy beside v1's.
[[nodiscard]] bool refuses_hybrid_cgroups(std::string_view text);

}  // namespace berth::engine::external
