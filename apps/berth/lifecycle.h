#pragma once
#include <string>
#include <string_view>

#include "base/result.h"

namespace berth::cli {

class Client;

/// Names the folder of logs that `berth run` made for a pod, so that `berth rm` can take it away.
inline constexpr std::string_view kLogDirectoryAnnotation = "io.berth.run/log-directory";

/// Stops and removes a pod, its containers and, when `berth run` made it, its logs.
Result<> remove_pod(Client& client, const std::string& pod_id);
/// The exit code of a container that has ended; 0 while it runs.
Result<int> exit_code(Client& client, const std::string& container_id);

}  // namespace berth::cli
