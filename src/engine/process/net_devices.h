#pragma once
#include "base/result.h"
#include "spec/runtime.h"

namespace berth::engine::process {

/// Moves linux.netDevices from the caller's network namespace into the container's, `netns_fd` (borrowed), renames
/// them, gives them their permanent global addresses again and sets them up. Names are looked at before the first is
/// moved. What was moved stays when a later one fails: the namespace's end gives it back. The caller must have one
/// thread, which is in the other namespace for a moment. Errors: kInvalid the namespace is the caller's own; kNotFound
/// no such link; kExists the container has one of the new name; kDenied. Source: config-linux.md "Network Devices".
Result<> move_net_devices(const spec::Linux& config, int netns_fd);

}  // namespace berth::engine::process
