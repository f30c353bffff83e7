#pragma once
#include <string>
#include <string_view>

#include "base/result.h"

namespace berth::shim::foreign {

/// What a shim's `start` says on its standard output.
struct Bootstrap {
  int task_api = 2;    ///< 2 or 3
  std::string socket;  ///< path, absolute
};

inline constexpr std::size_t kMaxBootstrapBytes = 16U << 10;

/// `said`: the address alone, as shims up to containerd 1.7 tell it, or an object with version, address and protocol.
/// Space around it is passed over. Errors: kCorrupt no such answer; kUnsupported another protocol than ttrpc, a version
/// that is neither 2 nor 3, an address that is no path. Source: containerd's documentation of runtime v2, "start".
[[nodiscard]] Result<Bootstrap> parse_bootstrap(std::string_view said);

}  // namespace berth::shim::foreign
