#include <fcntl.h>
#include <sys/utsname.h>

#include <set>

#include "base/failpoint.h"
#include "base/strings.h"
#include "cri/checkpoint_files.h"
#include "cri/pod_checkpoint.h"
#include "cri/service_impl.h"
#include "os/file.h"

namespace berth::cri {

namespace {

constexpr std::size_t kMaxPath = 4000;

Result<> check_request(const Call& call, const pb::CheckpointPodRequest& request) {
  const std::string& path = request.output_path();
  if (call.deadline == SteadyTime::max()) return fail(Code::kInvalid, "the call has no deadline, which it must have");
  if (path.size() < 2 || !path.starts_with('/') || path.size() > kMaxPath || path.find('\0') != std::string::npos ||
      clean_path(path) != path) {
    return fail(Code::kInvalid, "output_path \"" + path.substr(0, 255) + "\" is no absolute path of a folder");
  }
  if (request.container_ids_size() == 0) return fail(Code::kInvalid, "container_ids is empty");
  if (static_cast<std::size_t>(request.container_ids_size()) > kMaxCheckpointed) {
    return fail(Code::kInvalid, "container_ids: more than 1024");
  }
  std::set<std::string_view> seen;
  for (const auto& id : request.container_ids()) {
    if (!seen.insert(id).second) return fail(Code::kInvalid, "container_ids: " + id.substr(0, 255) + " is there twice");
  }
  if (request.options().empty()) return {};
  return fail(Code::kInvalid, "option \"" + request.options().begin()->first.substr(0, 255) +
                                  "\" is not known: there are none for checkpoints");
}

/// What another pod could not be given again in the same way.
Result<> check_restorable(const ContainerRecord& record) {
  const auto& config = record.config;
  const std::string name = "container " + config.metadata().name();
  for (const auto& mount : config.mounts()) {
    if (mount.propagation() != pb::PROPAGATION_PRIVATE) {
      return fail(Code::kUnsupported, name + ": mounts that propagate cannot be restored");
    }
  }
  if (config.tty() || config.stdin()) {
    return fail(Code::kUnsupported, name + ": a terminal or stdin that somebody holds cannot be restored");
  }
  return {};
}

Result<> check_empty(int folder_fd, const std::string& path) {
  BERTH_ASSIGN(const auto names, os::list_dir("/proc/self/fd/" + std::to_string(folder_fd)), path);
  if (names.empty()) return {};
  return fail(Code::kPrecondition, path + " is not empty: " + names.front().substr(0, 255) + " is in it");
}

}  // namespace

Result<pb::CheckpointPodResponse> ServiceImpl::checkpoint_pod(const Call& call,
                                                              const pb::CheckpointPodRequest& request) {
  BERTH_TRY(check_request(call, request), "CheckpointPod");
  BERTH_ASSIGN(const auto found, shown_sandbox(request.pod_sandbox_id()), "CheckpointPod");
  const std::string id = found->id;
  const auto deadline = checkpoint_deadline(call, 0);
  std::string key = "checkpoint-pod " + id + " " + request.output_path();
  for (const auto& container : request.container_ids()) key.append(" ").append(container);
  auto done = operations_.run(key, "CheckpointPod " + id, call, [=, this](Operation& operation) -> Result<std::string> {
    operation.about(id);
    const auto pod = make_pod(id);
    const OperationLock::Guard guard(pod->turn, operation);
    BERTH_TRY(checkpoint_pod_locked(operation, id, request, deadline), "checkpoint pod " + id.substr(0, 13));
    return std::string();
  });
  crashpoint("checkpoint-pod.answer");
  if (!done) return fail(std::move(done).error());
  return pb::CheckpointPodResponse();
}

Result<> ServiceImpl::checkpoint_pod_locked(Operation& operation, const std::string& id,
                                            const pb::CheckpointPodRequest& request, SteadyTime deadline) {
  const auto sandbox = registry_->sandbox(id);
  if (!sandbox) return fail(Code::kNotFound, "it was removed");
  BERTH_TRY(check_checkpointable(*sandbox), "sandbox");
  std::vector<ContainerPtr> containers;
  for (const auto& container_id : request.container_ids()) {
    BERTH_ASSIGN(auto container, running_container(container_id), "container_ids");
    if (container->sandbox_id != id || container->id != container_id) {
      return fail(Code::kInvalid, "container_ids: " + container_id.substr(0, 255) + " is no container of this pod");
    }
    BERTH_TRY(check_restorable(*container), "container_ids");
    containers.push_back(std::move(container));
  }
  BERTH_ASSIGN(Draft draft, Draft::begin(checkpoint_notes(), request.output_path()), "output_path");
  BERTH_TRY(check_empty(draft.parent_fd(), request.output_path()), "output_path");
  BERTH_TRY(failpoint("checkpoint-pod.noted"), "checkpoint");
  std::vector<std::string> folders;
  for (std::size_t i = 0; i < containers.size(); ++i) {
    const std::string part = "/containers/" + std::to_string(i);
    BERTH_TRY(os::make_dirs(draft.path() + part, 0700), "output_path");
    folders.push_back(draft.shared_path() + part);
  }
  const std::string shm = draft.shared_path() + "/" + kPodCheckpointShm;
  BERTH_TRY(write_checkpoint(operation, *sandbox, containers, folders, shm, deadline), "runtime");
  const Stage stage(operation, "finish the checkpoint", request.output_path());
  BERTH_TRY(write_pod_dump(*sandbox, containers, draft.path()), "output_path");
  BERTH_TRY(failpoint("checkpoint-pod.dumped"), "checkpoint");
  BERTH_TRY(in_time(deadline), "output_path");
  BERTH_TRY(draft.publish(kPodCheckpoint), "output_path");
  crashpoint("checkpoint-pod.published");
  return {};
}

Result<> ServiceImpl::write_pod_dump(const SandboxRecord& sandbox, const std::vector<ContainerPtr>& containers,
                                     const std::string& folder) const {
  PodCheckpoint checkpoint;
  utsname name{};
  if (::uname(&name) == 0) {
    checkpoint.kernel = name.release;
    checkpoint.machine = name.machine;
  }
  checkpoint.created_at_ns = wall_now_ns();
  checkpoint.sandbox = sandbox;
  for (std::size_t i = 0; i < containers.size(); ++i) {
    const std::string part = folder + "/containers/" + std::to_string(i);
    BERTH_TRY(write_dumps(sandbox, *containers[i], part), "container");
    BERTH_ASSIGN(auto files, files_in(part), "container");
    checkpoint.containers.push_back({*containers[i], std::move(files)});
  }
  return os::write_file_atomic(folder + "/" + kPodCheckpointFile, encode(checkpoint), 0600);
}

}  // namespace berth::cri
