#include "base/failpoint.h"
#include "base/log.h"
#include "cri/service_impl.h"
#include "os/file.h"

namespace berth::cri {

Result<pb::RemovePodSandboxResponse> ServiceImpl::remove_pod_sandbox(const Call& call,
                                                                     const pb::RemovePodSandboxRequest& request) {
  auto found = shown_sandbox(request.pod_sandbox_id());
  if (!found && found.error().code() == Code::kNotFound) return pb::RemovePodSandboxResponse();
  if (!found) return fail(std::move(found).error().in("RemovePodSandbox"));
  const std::string id = (*found)->id;
  auto done = operations_.run("remove-sandbox " + id, "RemovePodSandbox " + id, call,
                              [this, id](Operation& operation) -> Result<std::string> {
                                operation.about(id);
                                const auto pod = make_pod(id);
                                const OperationLock::Guard guard(pod->turn, operation);
                                BERTH_TRY(remove_sandbox(operation, id), "remove sandbox " + id.substr(0, 13));
                                return std::string();
                              });
  crashpoint("remove-pod.answer");
  if (!done) return fail(std::move(done).error());
  return pb::RemovePodSandboxResponse();
}

/// The pod's lock is held.
Result<> ServiceImpl::remove_sandbox(Operation& operation, const std::string& id) {
  const auto record = registry_->sandbox(id);
  if (!record) {
    drop_pod(id);
    return {};
  }
  const auto passage = plugins_.going(id);
  auto stopped = stop_sandbox(operation, id);
  const auto now = registry_->sandbox(id);
  if (!now) return {};
  // A network that is not given back yet is noted by the network itself: it does not hold the pod.
  const bool down = now->state == SandboxState::kStopped || now->state == SandboxState::kRemoving;
  if (!stopped && !down) return stopped;
  auto marked = registry_->update_sandbox(id, [](SandboxRecord& next) {
    if (next.state == SandboxState::kRemoving) return false;
    next.state = SandboxState::kRemoving;
    return true;
  });
  if (!marked) return fail(std::move(marked).error());
  BERTH_TRY(failpoint("remove-pod.recorded"), "RemovePodSandbox");
  for (const auto& container : registry_->containers_of(id)) {
    BERTH_TRY(remove_container_locked(operation, container->id), "container " + container->id.substr(0, 13));
  }
  crashpoint("remove-pod.containers");
  plugins_.remove_pod(operation, *now);
  {
    const Stage stage(operation, "remove the pod's folder", id);
    BERTH_TRY(os::remove_tree(dir_of(id)), "pod folder");
    BERTH_TRY(failpoint("remove-pod.folder"), "pod folder");
  }
  BERTH_TRY(registry_->erase_sandbox(id), "record");
  crashpoint("remove-pod.erased");
  timelines_.removed(id);
  drop_pod(id);
  MutexLock lock(network_mutex_);
  network_failed_.erase(id);
  return {};
}

}  // namespace berth::cri
