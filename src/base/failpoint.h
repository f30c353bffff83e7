#pragma once
#include "base/result.h"

namespace berth {

/// A named place where a test may make the program fail or die. In release builds it compiles to nothing.
/// The environment BERTH_FAILPOINTS="name=kill;other=2*error(EBUSY)" drives it: `kill` ends the process with SIGKILL,
/// `error(E)` returns that errno, `sleep(ms)` waits; a leading "N*" makes it fire on the N-th pass only.
#if defined(BERTH_FAILPOINTS)
[[nodiscard]] Result<> failpoint(const char* name);
#else
[[nodiscard]] inline Result<> failpoint(const char* /*name*/) {
  return {};
}
#endif

}  // namespace berth
