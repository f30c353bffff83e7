#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "cri/records.h"

namespace berth::cri {

/// The OCI process object of a command in a container: the container's own process with other arguments. With a
/// terminal TERM is set if it is not. kInvalid: no command, or an argument with a NUL.
[[nodiscard]] Result<std::string> exec_process(const ContainerRecord& record, std::vector<std::string> args,
                                               bool terminal);

}  // namespace berth::cri
