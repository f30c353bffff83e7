#include <algorithm>

#include "base/failpoint.h"
#include "cri/pod_resources.h"
#include "cri/service_impl.h"

namespace berth::cri {

/// A limit on what others use, too, would be theirs. A pod's earlier sandboxes have the same cgroup, for a while.
Result<> ServiceImpl::check_pod_cgroup(const SandboxRecord& record) const {
  if (record.cgroup_parent == "/" || record.cgroup_parent == parent_path_) {
    return fail(Code::kPrecondition, "the cgroup " + record.cgroup_parent + " is not this pod's own");
  }
  const std::string below = record.cgroup_parent + "/";
  for (const auto& other : registry_->sandboxes()) {
    const bool over = other->state == SandboxState::kStopped || other->state == SandboxState::kRemoving;
    if (over || other->config.metadata().uid() == record.config.metadata().uid()) continue;
    if (other->cgroup_parent == record.cgroup_parent || other->cgroup_parent.starts_with(below)) {
      return fail(Code::kPrecondition,
                  "the cgroup " + record.cgroup_parent + " is also that of pod " + other->id.substr(0, 13));
    }
  }
  return {};
}

Result<> ServiceImpl::update_pod_locked(Operation& operation, const std::string& id,
                                        const pb::UpdatePodSandboxResourcesRequest& request) {
  const auto record = registry_->sandbox(id);
  if (!record) return fail(Code::kNotFound, "no sandbox " + id);
  if (record->state != SandboxState::kReady) {
    return fail(Code::kPrecondition, "it is " + std::string(state_name(record->state)));
  }
  const auto& linux = record->config.linux();
  const PodResources asked{request.resources(), request.overhead()};
  const PodResources whole{merged(linux.resources(), asked.resources), merged(linux.overhead(), asked.overhead)};
  BERTH_ASSIGN(const auto plan, plan_pod_cgroup(whole, asked, host_), "resources");
  if (!plan.empty()) BERTH_TRY(check_pod_cgroup(*record), "cgroup");
  BERTH_TRY(plugins_.update_pod(operation, *record, asked.overhead, asked.resources), "plugins");
  if (!plan.empty()) {
    const Stage stage(operation, "set the pod's limits", record->cgroup_parent);
    BERTH_TRY(failpoint("update-pod.begun"), "cgroup");
    BERTH_TRY(limit_pod(*record, plan), "cgroup " + record->cgroup_parent);
  }
  BERTH_TRY(failpoint("update-pod.applied"), "UpdatePodSandboxResources");
  auto stored = registry_->update_sandbox(id, [&](SandboxRecord& next) {
    auto& config = *next.config.mutable_linux();
    if (request.has_resources()) *config.mutable_resources() = whole.resources;
    if (request.has_overhead()) *config.mutable_overhead() = whole.overhead;
    return request.has_resources() || request.has_overhead();
  });
  if (!stored) return fail(std::move(stored).error());
  crashpoint("update-pod.stored");
  plugins_.pod_updated(**stored);
  return {};
}

Result<pb::UpdatePodSandboxResourcesResponse> ServiceImpl::update_pod_sandbox_resources(
    const Call& call, const pb::UpdatePodSandboxResourcesRequest& request) {
  BERTH_ASSIGN(const auto found, shown_sandbox(request.pod_sandbox_id()), "UpdatePodSandboxResources");
  const std::string id = found->id;
  // Not joined: two updates may ask for different things, so each has a turn of its own.
  const std::string key = "update-pod " + id + " " + request.SerializeAsString();
  auto done = operations_.run(key, "UpdatePodSandboxResources " + id, call,
                              [this, id, request](Operation& operation) -> Result<std::string> {
                                operation.about(id);
                                const auto pod = make_pod(id);
                                const OperationLock::Guard guard(pod->turn, operation);
                                BERTH_TRY(update_pod_locked(operation, id, request), "update pod " + id.substr(0, 13));
                                return std::string();
                              });
  crashpoint("update-pod.answer");
  if (!done) return fail(std::move(done).error());
  return pb::UpdatePodSandboxResourcesResponse();
}

}  // namespace berth::cri
