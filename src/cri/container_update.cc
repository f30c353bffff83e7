#include "base/failpoint.h"
#include "cri/pod_resources.h"
#include "cri/service_impl.h"
#include "spec/runtime.h"

namespace berth::cri {

Result<pb::UpdateContainerResourcesResponse> ServiceImpl::update_container_resources(
    const Call& call, const pb::UpdateContainerResourcesRequest& request) {
  BERTH_ASSIGN(const auto found, shown_container(request.container_id()), "UpdateContainerResources");
  const std::string id = found->id;
  const std::string sandbox_id = found->sandbox_id;
  // Not joined: two updates may ask for different things, so each has a turn of its own.
  const std::string key = "update " + id + " " + request.linux().SerializeAsString();
  auto done =
      operations_.run(key, "UpdateContainerResources " + id, call,
                      [this, id, sandbox_id, asked = request.linux()](Operation& operation) -> Result<std::string> {
                        operation.about(sandbox_id, id);
                        const auto pod = make_pod(sandbox_id);
                        const OperationLock::Guard guard(pod->turn, operation);
                        BERTH_TRY(update_locked(operation, id, asked), "update container " + id.substr(0, 13));
                        return std::string();
                      });
  crashpoint("update.answer");
  if (!done) return fail(std::move(done).error());
  return pb::UpdateContainerResourcesResponse();
}

Result<> ServiceImpl::update_locked(Operation& operation, const std::string& id,
                                    const pb::LinuxContainerResources& asked) {
  const auto record = registry_->container(id);
  if (!record) return fail(Code::kNotFound, "no container " + id);
  if (record->phase != ContainerPhase::kCreated && record->phase != ContainerPhase::kRunning) {
    return fail(Code::kPrecondition, "it is " + std::string(phase_name(record->phase)));
  }
  // The shim has nothing of it; NOT_FOUND would say that the container is gone.
  if (!record->create_error.empty()) return fail(Code::kPrecondition, "it cannot run: " + record->create_error);
  // Only what is asked for goes to the shim; the swap limit follows the memory limit as at creation.
  BERTH_ASSIGN(auto resources, build_resources(asked, host_), "resources");
  auto limits = plugin_view(asked);
  BERTH_ASSIGN(const bool had_a_say, plugins_.update_container(operation, *record, limits), "plugins");
  if (had_a_say) BERTH_TRY(nri::apply(limits, plugins_.machine(), resources), "what the NRI plugins made of it");
  BERTH_ASSIGN(const auto link, link_of(record->sandbox_id), "shim");
  {
    const Stage stage(operation, "update in the shim", id);
    BERTH_TRY(failpoint("update.shim"), "runtime");
    BERTH_TRY(link->update(id, spec::write_resources(resources)), "runtime");
  }
  BERTH_TRY(failpoint("update.applied"), "UpdateContainerResources");
  auto stored = registry_->update_container(id, [&](ContainerRecord& next) {
    next.resources = merged(next.resources, asked);
    if (had_a_say) merge_limits(limits, next.resources);
    return true;
  });
  if (!stored) return fail(std::move(stored).error());
  crashpoint("update.stored");
  plugins_.updated(**stored);
  return {};
}

}  // namespace berth::cri
