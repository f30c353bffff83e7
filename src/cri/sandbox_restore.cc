#include <fcntl.h>
#include <google/protobuf/util/message_differencer.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/strings.h"
#include "cri/checkpoint_match.h"
#include "cri/pod_checkpoint.h"
#include "cri/service_impl.h"
#include "image/layer_writer.h"
#include "image/tar_reader.h"
#include "os/file.h"

/// RestorePod: the pod as RunPodSandbox makes it, then each container out of its checkpoint, frozen until it is
/// started. All of it is in a state of its own until it is whole; a daemon that dies before removes it when it comes
/// back.
namespace berth::cri {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxPath = 4000;
constexpr std::size_t kMaxRecord = 32U << 20;
constexpr std::size_t kPiece = 1U << 20;

Result<> check_request(const Call& call, const pb::RestorePodRequest& request) {
  const std::string& path = request.checkpoint_path();
  if (call.deadline == SteadyTime::max()) return fail(Code::kInvalid, "the call has no deadline, which it must have");
  if (path.size() < 2 || !path.starts_with('/') || path.size() > kMaxPath || path.find('\0') != std::string::npos ||
      clean_path(path) != path) {
    return fail(Code::kInvalid, "checkpoint_path \"" + path.substr(0, 255) + "\" is no absolute path of a folder");
  }
  if (!request.options().empty()) {
    return fail(Code::kInvalid, "option \"" + request.options().begin()->first.substr(0, 255) +
                                    "\" is not known: there are none for restores");
  }
  if (request.container_configs_size() == 0) return fail(Code::kInvalid, "container_configs is empty");
  return {};
}

std::string key_of(const pb::RestorePodRequest& request) {
  const auto& metadata = request.config().metadata();
  std::string key = "restore";
  for (const auto& part : {metadata.uid(), metadata.namespace_(), metadata.name(), std::to_string(metadata.attempt()),
                           request.checkpoint_path()}) {
    key.push_back('\0');
    key.append(part);
  }
  return key;
}

/// A file below the checkpoint's folder, reached by no link.
Result<UniqueFd> open_part(int folder_fd, const std::string& path) {
  // RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH of openat2(2).
  constexpr std::uint64_t kNoLinks = 0x04 | 0x08;
  auto file = os::open_in(folder_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, kNoLinks);
  if (!file) return fail(std::move(file).error().in(path));
  struct stat st{};
  if (::fstat(file->get(), &st) != 0) return fail_errno(errno, "stat " + path);
  if (!S_ISREG(st.st_mode)) return fail(Code::kCorrupt, path + " is no file");
  return file;
}

/// Unpacks an archive of the checkpoint into `root`, an open folder that nobody uses yet.
Result<> unpack(int archive_fd, UniqueFd root) {
  struct stat st{};
  if (::fstat(archive_fd, &st) != 0) return fail_errno(errno, "stat the archive");
  BERTH_ASSIGN(const std::uint32_t umask, image::current_umask(), "unpack");
  // Nothing in it can be larger than it is itself.
  image::LayerWriter writer(std::move(root), umask, static_cast<std::uint64_t>(st.st_size));
  image::TarReader reader({}, writer);
  std::string buffer(kPiece, '\0');
  for (;;) {
    const ssize_t n = ::read(archive_fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "read the archive");
    if (n == 0) break;
    BERTH_TRY(reader.push(image::as_bytes(std::string_view(buffer).substr(0, static_cast<std::size_t>(n)))), "unpack");
  }
  BERTH_TRY(reader.finish(), "unpack");
  return writer.finish();
}

}  // namespace

/// A checkpoint that was looked at: what it says, and its open folder.
struct ServiceImpl::Checkpointed {
  PodCheckpoint saved;
  UniqueFd folder;
  std::string path;  ///< of that folder
};

Result<ServiceImpl::Checkpointed> ServiceImpl::open_checkpoint(const std::string& path) {
  Checkpointed found;
  found.path = path + "/" + kPodCheckpoint;
  BERTH_ASSIGN(const UniqueFd outer, os::open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), "open");
  auto folder = os::open_at(outer.get(), kPodCheckpoint, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!folder) return fail(std::move(folder).error().in("there is no checkpoint of Berth's, or not a whole one"));
  found.folder = std::move(*folder);
  BERTH_ASSIGN(const UniqueFd record, open_part(found.folder.get(), kPodCheckpointFile), "open");
  BERTH_ASSIGN(const std::string bytes, os::read_all(record.get(), kMaxRecord), kPodCheckpointFile);
  BERTH_ASSIGN(found.saved, decode_pod_checkpoint(bytes), kPodCheckpointFile);
  utsname name{};
  if (::uname(&name) == 0 && found.saved.machine != name.machine) {
    return fail(Code::kPrecondition, "it was made on a machine of another kind, " + found.saved.machine);
  }
  for (std::size_t i = 0; i < found.saved.containers.size(); ++i) {
    const std::string part = "/proc/self/fd/" + std::to_string(found.folder.get()) + "/containers/" + std::to_string(i);
    BERTH_ASSIGN(const auto files, files_in(part), "containers/" + std::to_string(i));
    if (files != found.saved.containers[i].files) {
      return fail(Code::kCorrupt, "the files of container " + std::to_string(i) + " are not those that were written");
    }
  }
  return found;
}

/// The requested configuration for each container of the checkpoint, in its order.
Result<std::vector<pb::ContainerConfig>> ServiceImpl::match_checkpoint(const pb::RestorePodRequest& request,
                                                                       const PodCheckpoint& saved) const {
  std::map<std::string, const pb::ContainerConfig*> asked;
  for (const auto& config : request.container_configs()) {
    const std::string& name = config.metadata().name();
    if (name.empty()) return fail(Code::kInvalid, "container_configs: a container without a name");
    if (!asked.emplace(name, &config).second) {
      return fail(Code::kInvalid, "container_configs: two containers are called " + name);
    }
  }
  BERTH_TRY(match_pod(request.config(), saved.sandbox.config), "config");
  std::vector<pb::ContainerConfig> matched;
  for (const auto& container : saved.containers) {
    const std::string& name = container.record.config.metadata().name();
    const auto found = asked.find(name);
    if (found == asked.end()) return fail(Code::kInvalid, "container_configs: container " + name + " is missing");
    BERTH_TRY(match_container(*found->second, container.record.config), "container " + name);
    BERTH_ASSIGN(const auto image, find_image(*options_.images, found->second->image()), "container " + name);
    if (image.id != container.record.image_id) {
      return fail(Code::kInvalid, "container " + name + ": its image is " + image.id + ", the checkpoint's is " +
                                      container.record.image_id);
    }
    matched.push_back(*found->second);
    asked.erase(found);
  }
  if (asked.empty()) return matched;
  return fail(Code::kInvalid, "container_configs: the checkpoint has no container " + asked.begin()->first);
}

Result<> ServiceImpl::check_restore(const pb::RestorePodRequest& request) const {
  pb::RunPodSandboxRequest run;
  *run.mutable_config() = request.config();
  run.set_runtime_handler(request.runtime_handler());
  BERTH_TRY(check_sandbox(run), "config");
  BERTH_ASSIGN(const auto handler, handlers_.find(request.runtime_handler()), "runtime_handler");
  if (!handler.ours()) {
    const std::string& program = handler.shim.empty() ? handler.binary : handler.shim;
    return fail(Code::kUnsupported, "handler \"" + request.runtime_handler() + "\" runs containers by " + program +
                                        ", which cannot restore a checkpoint of Berth's");
  }
  if (ids_of(request.config())) {
    return fail(Code::kUnsupported, "userns_options: nothing can be restored into a user namespace");
  }
  if (host_.cgroup_v2) return {};
  return fail(Code::kUnsupported,
              "this node has cgroup v1; restored processes can be kept from running until their start by v2 alone");
}

Result<pb::RestorePodResponse> ServiceImpl::restore_pod(const Call& call, const pb::RestorePodRequest& request) {
  BERTH_TRY(check_request(call, request), "RestorePod");
  BERTH_TRY(check_restore(request), "RestorePod");
  const auto& metadata = request.config().metadata();
  const auto deadline = checkpoint_deadline(call, 0);
  auto id = operations_.run(key_of(request), "RestorePod " + metadata.namespace_() + "/" + metadata.name(), call,
                            [=, this](Operation& operation) { return restore_new(operation, request, deadline); });
  crashpoint("restore.answer");
  if (!id) return fail(std::move(id).error().in("RestorePod"));
  pb::RestorePodResponse answer;
  answer.set_pod_sandbox_id(*id);
  for (const auto& container : registry_->containers_of(*id)) {
    auto& restored = *answer.add_restored_containers();
    restored.set_name(container->config.metadata().name());
    restored.set_container_id(container->id);
  }
  return answer;
}

/// A call whose answer was lost is answered once more, as long as nothing was done with what it had made.
Result<std::string> ServiceImpl::restored_before(const pb::RestorePodRequest& request) const {
  for (const auto& record : registry_->sandboxes()) {
    const auto& theirs = record->config.metadata();
    const auto& ours = request.config().metadata();
    if (record->state != SandboxState::kReady || theirs.uid() != ours.uid() || theirs.name() != ours.name() ||
        theirs.namespace_() != ours.namespace_() || theirs.attempt() != ours.attempt()) {
      continue;
    }
    const auto containers = registry_->containers_of(record->id);
    const auto as_asked = [&](const ContainerPtr& container) {
      return container->phase == ContainerPhase::kCreated &&
             std::ranges::any_of(request.container_configs(), [&](const pb::ContainerConfig& config) {
               return google::protobuf::util::MessageDifferencer::Equals(config, container->config);
             });
    };
    const bool untouched = record->restored_from == request.checkpoint_path() &&
                           containers.size() == static_cast<std::size_t>(request.container_configs_size()) &&
                           std::ranges::all_of(containers, as_asked);
    if (untouched) return record->id;
    return fail(Code::kExists,
                "pod " + ours.namespace_() + "/" + ours.name() + " is there already: " + record->id.substr(0, 13));
  }
  return std::string();
}

Result<std::string> ServiceImpl::restore_new(Operation& operation, const pb::RestorePodRequest& request,
                                             SteadyTime deadline) {
  BERTH_ASSIGN(std::string id, restored_before(request), "pod");
  if (!id.empty()) return id;
  std::optional<Stage> stage;
  stage.emplace(operation, "read the checkpoint", request.checkpoint_path());
  BERTH_ASSIGN(const Checkpointed checkpoint, open_checkpoint(request.checkpoint_path()), "checkpoint_path");
  BERTH_ASSIGN(const auto configs, match_checkpoint(request, checkpoint.saved), "request");
  stage.reset();
  pb::RunPodSandboxRequest run;
  *run.mutable_config() = request.config();
  run.set_runtime_handler(request.runtime_handler());
  BERTH_ASSIGN(id, make_sandbox(operation, run, request.checkpoint_path()), "pod");
  const auto pod = make_pod(id);
  const OperationLock::Guard guard(pod->turn, operation);
  auto done = restore_containers(operation, id, checkpoint, configs, deadline);
  if (done) done = in_time(deadline);
  if (done) done = show_restored(id, *pod);
  if (done) return id;
  crashpoint("restore.failed");
  // Nobody was told its id.
  auto marked = registry_->update_sandbox(id, [](SandboxRecord& next) {
    next.state = SandboxState::kRemoving;
    return true;
  });
  auto removed = marked ? remove_sandbox(operation, id) : Result<>(fail(marked.error()));
  if (!removed) {
    log_error("what was restored of a pod stays for now", {{"sandbox", id}, {"err", removed.error().text()}});
  }
  return fail(std::move(done).error());
}

Result<> ServiceImpl::restore_containers(Operation& operation, const std::string& id, const Checkpointed& checkpoint,
                                         const std::vector<pb::ContainerConfig>& configs, SteadyTime deadline) {
  BERTH_TRY(failpoint("restore.pod-made"), "restore");
  const auto sandbox = registry_->sandbox(id);
  if (!sandbox) return fail(Code::kNotFound, "the pod was removed");
  {
    const Stage stage(operation, "fill /dev/shm", id);
    BERTH_ASSIGN(const UniqueFd archive, open_part(checkpoint.folder.get(), kPodCheckpointShm), "checkpoint_path");
    // As its shim sees it, who alone has mounted it.
    const std::string place = "/proc/" + std::to_string(sandbox->shim_pid) + "/root" + dir_of(id) + "/shm";
    BERTH_ASSIGN(UniqueFd shm, os::open_file(place, O_RDONLY | O_DIRECTORY), "/dev/shm");
    BERTH_TRY(unpack(archive.get(), std::move(shm)), "/dev/shm");
  }
  for (std::size_t i = 0; i < configs.size(); ++i) {
    RestoreSource source{checkpoint, i, deadline};
    pb::CreateContainerRequest request;
    request.set_pod_sandbox_id(id);
    *request.mutable_config() = configs[i];
    *request.mutable_sandbox_config() = sandbox->config;
    BERTH_TRY(make_container(operation, request, id, &source), "container " + configs[i].metadata().name());
    BERTH_TRY(failpoint("restore.container"), "restore");
  }
  return {};
}

/// The writable layer as it was.
Result<> ServiceImpl::restore_layer(Operation& operation, const RestoreSource& source,
                                    const image::RootfsMount& rootfs) {
  const std::string upper = upper_of(rootfs);
  const std::string part = "containers/" + std::to_string(source.number) + "/rootfs-diff.tar";
  const Stage stage(operation, "unpack the writable layer", upper);
  BERTH_ASSIGN(const UniqueFd archive, open_part(source.checkpoint.folder.get(), part), "checkpoint_path");
  BERTH_ASSIGN(UniqueFd root, os::open_file(upper, O_RDONLY | O_DIRECTORY), "writable layer");
  BERTH_TRY(unpack(archive.get(), std::move(root)), "writable layer");
  return failpoint("restore.layer");
}

Result<pid_t> ServiceImpl::restore_in_shim(ShimLink& link, const std::string& id, const std::string& dir,
                                           const image::RootfsMount& rootfs, const ShimStdio& stdio,
                                           const RestoreSource& source) {
  const auto left = std::chrono::duration_cast<milliseconds>(source.deadline - steady_clock::now());
  if (left.count() <= 0) return fail(Code::kTimeout, "no time is left");
  // By its path: criu opens it in a mount namespace of its own, in which our descriptors are of another.
  const std::string images = source.checkpoint.path + "/containers/" + std::to_string(source.number) + "/checkpoint";
  return link.create(id, dir, rootfs, stdio, images, left);
}

/// The last step: from here on it is a pod like others.
Result<> ServiceImpl::show_restored(const std::string& id, const Pod& pod) {
  for (const auto& container : registry_->containers_of(id)) {
    auto shown = registry_->update_container(container->id, [](ContainerRecord& next) {
      next.phase = ContainerPhase::kCreated;
      return true;
    });
    if (!shown) return fail(std::move(shown).error());
  }
  BERTH_TRY(failpoint("restore.shown"), "restore");
  auto stored = registry_->update_sandbox(id, [](SandboxRecord& next) {
    if (next.state != SandboxState::kRestoring) return false;
    next.state = SandboxState::kReady;
    return true;
  });
  if (!stored) return fail(std::move(stored).error());
  crashpoint("restore.stored");
  // Its shim may have died while nothing was to be seen of the pod.
  BERTH_ASSIGN(const auto link, pod.link(), "shim");
  if (!link->alive()) return fail(Code::kUnavailable, "the pod's shim has ended");
  for (const auto& container : registry_->containers_of(id)) plugins_.created(*container);
  return {};
}

}  // namespace berth::cri
