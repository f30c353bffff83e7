#pragma once
#include <string>

#include "base/result.h"

namespace berth {

/// A named place where a test may make the program fail, hang or die. Only where BERTH_FAILPOINTS is defined: in the
/// asan build, and in the programs of bin/failpoints that tests/recovery drives. Elsewhere it compiles to nothing.
/// The environment BERTH_FAILPOINTS drives it, in one of two forms:
///   "name=kill;other=2*error(EBUSY)"  these actions
///   "@/folder"  the action is the content of the file of the point's name in that folder, looked for at each pass. It
///               happens once: the file is renamed to NAME.done first.
/// `kill` ends the process with SIGKILL, `error(E)` returns that errno, `sleep(ms)` waits; a leading "N*" lets it
/// happen on the N-th pass only.
#if defined(BERTH_FAILPOINTS)
[[nodiscard]] Result<> failpoint(const char* name);
/// The same where no failure can be returned: `error(E)` does nothing.
void crashpoint(const char* name);
/// What a program that this one starts shall have as BERTH_FAILPOINTS: "BERTH_FAILPOINTS=" and our
/// BERTH_FAILPOINTS_SHIM. "" when that is not set.
[[nodiscard]] std::string failpoints_of_child();
#else
[[nodiscard]] inline Result<> failpoint(const char* /*name*/) {
  return {};
}
inline void crashpoint(const char* /*name*/) {}
[[nodiscard]] inline std::string failpoints_of_child() {
  return {};
}
#endif

}  // namespace berth
