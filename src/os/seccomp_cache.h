#pragma once
#include "base/result.h"
#include "os/seccomp.h"

namespace berth::os {

/// compile_seccomp(), or what an earlier call kept of the same policy below `cache_dir_fd` (borrowed; -1: no cache).
/// libseccomp takes some 15 ms for a default profile, more than all other steps of a container's start together.
/// An entry holds its whole key, so that nothing but an equal policy and library version can match; one that cannot be
/// read is made anew. A full or read-only folder is no error. The folder must be writable by nobody but us. Blocks on
/// disk.
Result<SeccompProgram> compile_seccomp_cached(const SeccompPolicy& policy, int cache_dir_fd);

}  // namespace berth::os
