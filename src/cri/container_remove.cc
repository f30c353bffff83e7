#include "base/failpoint.h"
#include "base/log.h"
#include "cri/service_impl.h"
#include "image/store.h"
#include "os/file.h"

namespace berth::cri {

Result<pb::RemoveContainerResponse> ServiceImpl::remove_container(const Call& call,
                                                                  const pb::RemoveContainerRequest& request) {
  auto found = shown_container(request.container_id());
  if (!found && found.error().code() == Code::kNotFound) return pb::RemoveContainerResponse();
  if (!found) return fail(std::move(found).error().in("RemoveContainer"));
  const std::string id = (*found)->id;
  const std::string sandbox_id = (*found)->sandbox_id;
  auto done =
      operations_.run("remove " + id, "RemoveContainer " + id, call,
                      [this, id, sandbox_id](Operation& operation) -> Result<std::string> {
                        operation.about(sandbox_id, id);
                        const auto pod = make_pod(sandbox_id);
                        const OperationLock::Guard guard(pod->turn, operation);
                        BERTH_TRY(remove_container_locked(operation, id), "remove container " + id.substr(0, 13));
                        return std::string();
                      });
  crashpoint("remove.answer");
  if (!done) return fail(std::move(done).error());
  return pb::RemoveContainerResponse();
}

Result<> ServiceImpl::remove_container_locked(Operation& operation, const std::string& id) {
  const auto record = registry_->container(id);
  if (!record) return {};
  const auto passage = plugins_.going(id);
  BERTH_TRY(kill_container(operation, *record), "end it");
  plugins_.remove_container(operation, *record);
  auto marked = registry_->update_container(id, [](ContainerRecord& next) {
    if (next.phase == ContainerPhase::kRemoving) return false;
    next.phase = ContainerPhase::kRemoving;
    return true;
  });
  if (!marked) return fail(std::move(marked).error());
  BERTH_TRY(failpoint("remove.recorded"), "RemoveContainer");
  if (const auto link = link_of(record->sandbox_id)) {
    const Stage stage(operation, "remove from the shim", id);
    auto removed = (*link)->remove(id);
    crashpoint("remove.shim");
    if (!removed && removed.error().code() != Code::kNotFound && removed.error().code() != Code::kUnavailable) {
      return fail(std::move(removed).error());
    }
  }
  {
    const Stage stage(operation, "remove the root file system", id);
    BERTH_TRY(options_.images->remove_rootfs(id), "root file system");
    BERTH_TRY(failpoint("remove.rootfs"), "root file system");
    BERTH_TRY(remove_volumes(*record), "root file system");
  }
  BERTH_TRY(os::remove_tree(dir_of(*record)), "bundle");
  BERTH_TRY(failpoint("remove.folder"), "bundle");
  BERTH_TRY(registry_->erase_container(id), "record");
  crashpoint("remove.erased");
  plugins_.forget(id);
  stats_.erase(id);
  MutexLock lock(stop_mutex_);
  stop_sent_.erase(id);
  return {};
}

}  // namespace berth::cri
