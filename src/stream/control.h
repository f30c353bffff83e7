#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "stream/session_spec.h"
#include "ttrpc/server.h"

namespace berth::stream {

struct ControlInfo {
  std::string settings;
  std::uint64_t sessions = 0;
  std::string base_url;
};

/// What the control interface (api/berth/stream/v1) does. Called on the loop's thread.
struct ControlHooks {
  std::function<Result<std::string>(SessionSpec)> prepare;  ///< a URL
  std::function<ControlInfo()> info;
  std::function<void()> drain;
};

void serve_control_api(ttrpc::Server& server, ControlHooks hooks);

/// Listens on a unix socket that only our own user may use; removes what a dead server left there.
[[nodiscard]] Result<> listen_control(ttrpc::Server& server, const std::string& path);

}  // namespace berth::stream
