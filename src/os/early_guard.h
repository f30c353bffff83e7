#pragma once

namespace berth::os {

/// The descriptor (O_PATH, close-on-exec) of the detached read-only mount of the own executable that a program with the
/// entry `berth_guarded_start` (early_guard.cc) has run from since before main(), for its first caller to own; -1
/// where there is none: another entry, an executable on a read-only mount, or one that was executed again.
int early_guard_view();

}  // namespace berth::os
