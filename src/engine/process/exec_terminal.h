#pragma once
#include "base/result.h"
#include "base/unique_fd.h"
#include "spec/runtime.h"

namespace berth::engine::process {

/// A terminal for an exec, from the container's devpts, which the calling child is in: sends the master up the channel
/// and returns the slave.
Result<UniqueFd> open_exec_terminal(const spec::Process& process, int channel_fd);

/// Master and slave of a new terminal of the devpts at `devpts_fd`; the slave belongs to the process's user and has its
/// size. By the master and not by a path, which something inside could have replaced. Source: CVE-2025-52565.
struct Terminal {
  UniqueFd master;
  UniqueFd slave;
};
Result<Terminal> open_terminal(int devpts_fd, const spec::Process& process);

}  // namespace berth::engine::process
