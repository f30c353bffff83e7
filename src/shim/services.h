#pragma once
#include <functional>

#include "shim/checkpoint.h"
#include "shim/exec_sync.h"
#include "shim/pod.h"
#include "shim/task_events.h"
#include "ttrpc/server.h"

namespace berth::shim {

/// Registers containerd.task.v2.Task and containerd.task.v3.Task. `pod` and `events` outlive the server. `shut_down` is
/// called for Shutdown when it is to end the shim: the answer is already on its way.
void serve_task_api(ttrpc::Server& server, Pod& pod, TaskEvents& events, std::function<void()> shut_down);

/// Registers containerd.runtime.sandbox.v1.Sandbox: this shim as a sandbox, whose id is the pod's. `pod` and
/// `shut_down` as above.
void serve_sandbox_api(ttrpc::Server& server, Pod& pod, std::function<void()> shut_down);

/// Registers berth.shim.v1.Shim. `pod`, `execs` and `checkpoints` outlive the server.
void serve_shim_api(ttrpc::Server& server, Pod& pod, ExecSync& execs, Checkpoints& checkpoints);

}  // namespace berth::shim
