#pragma once
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/result.h"

namespace berth::cri {

/// Reads the first line that a program of ours writes when it is ready, without its end. Nothing when the program ends
/// before. Errors: kTimeout at the deadline; kInternal a line of over 4096 bytes; else by errno.
[[nodiscard]] Result<std::optional<std::string>> read_ready_line(int fd, SteadyTime deadline);

/// The last line that a dead program wrote to its log, for an error's text.
[[nodiscard]] std::string last_words(const std::string& log_path);

}  // namespace berth::cri
