#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/failpoint.h"
#include "base/strings.h"
#include "cri/checkpoint_files.h"
#include "cri/service_impl.h"
#include "image/store.h"
#include "os/file.h"

/// CheckpointContainer, and what it shares with CheckpointPod. The shim does what must not stop half-way: it freezes
/// the containers, lets criu write them, and lets them go on whatever becomes of us.
namespace berth::cri {

namespace {

namespace bs = ::berth::shim::v1;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxLocation = 4000;
constexpr std::int64_t kMaxTimeout = 365LL * 86400;
// Of a caller that sets neither a deadline nor a timeout.
constexpr std::chrono::minutes kDefaultTime{10};
constexpr milliseconds kLeastMargin{100};
constexpr milliseconds kMostMargin{5000};
constexpr std::size_t kMaxSpec = 16U << 20;

Result<> check_request(const pb::CheckpointContainerRequest& request) {
  const std::string& location = request.location();
  if (request.timeout() < 0) return fail(Code::kInvalid, "timeout below 0");
  if (!location.starts_with('/') || location.ends_with('/') || location.size() > kMaxLocation ||
      location.find('\0') != std::string::npos || clean_path(location) != location) {
    return fail(Code::kInvalid, "location \"" + location.substr(0, 255) + "\" is no absolute path of a file");
  }
  return {};
}

}  // namespace

std::string upper_of(const image::RootfsMount& rootfs) {
  constexpr std::string_view kUpper = "upperdir=";
  for (const auto& option : rootfs.options) {
    if (option.starts_with(kUpper)) return option.substr(kUpper.size());
  }
  return {};
}

/// The time for the work itself, so that its failure is undone before the caller's deadline.
SteadyTime ServiceImpl::checkpoint_deadline(const Call& call, std::int64_t timeout_s) {
  const auto now = steady_clock::now();
  auto deadline = now + kDefaultTime;
  if (timeout_s > 0) deadline = now + std::chrono::seconds(std::min(timeout_s, kMaxTimeout));
  if (call.deadline == SteadyTime::max()) return deadline;
  const auto left = std::chrono::duration_cast<milliseconds>(call.deadline - now);
  return std::min(deadline, call.deadline - std::clamp(left / 5, kLeastMargin, kMostMargin));
}

/// Whether a pod is of a kind that can be checkpointed at all; what is not known here the shim says.
Result<> ServiceImpl::check_checkpointable(const SandboxRecord& sandbox) const {
  if (sandbox.state != SandboxState::kReady) {
    return fail(Code::kPrecondition, "its sandbox is " + std::string(state_name(sandbox.state)) + ", not ready");
  }
  if (ids_of(sandbox.config)) {
    return fail(Code::kUnsupported, "userns_options: containers in a user namespace cannot be checkpointed");
  }
  const auto handler = handlers_.find(sandbox.handler);
  if (!handler || handler->ours()) return {};
  const std::string& program = handler->shim.empty() ? handler->binary : handler->shim;
  return fail(Code::kUnsupported, "handler \"" + sandbox.handler + "\" runs containers by " + program +
                                      ", which Berth cannot let make checkpoints");
}

Result<> ServiceImpl::write_checkpoint(Operation& operation, const SandboxRecord& sandbox,
                                       const std::vector<ContainerPtr>& containers,
                                       const std::vector<std::string>& folders, const std::string& shm_file,
                                       SteadyTime deadline) {
  BERTH_ASSIGN(const auto link, link_of(sandbox.id), "shim");
  bs::CheckpointRequest request;
  for (std::size_t i = 0; i < containers.size(); ++i) {
    const auto& container = *containers[i];
    // As it is: this makes nothing that is there.
    BERTH_ASSIGN(const auto rootfs, options_.images->prepare_rootfs(container.id, container.image_id, std::nullopt),
                 "root file system");
    auto& target = *request.add_containers();
    target.set_container_id(container.id);
    target.set_folder(folders[i]);
    target.set_upper(upper_of(rootfs));
  }
  request.set_shm_file(shm_file);
  const auto left = std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now());
  if (left.count() <= 0) return fail(Code::kTimeout, "no time is left before the first step");
  request.set_timeout_ms(static_cast<std::uint64_t>(left.count()));
  const Stage stage(operation, "checkpoint in the shim", sandbox.id);
  BERTH_TRY(failpoint("checkpoint.shim"), "checkpoint");
  BERTH_TRY(link->checkpoint(request), "checkpoint");
  crashpoint("checkpoint.written");
  return {};
}

/// What says of a container how it was made, beside what the shim has written of it.
Result<> ServiceImpl::write_dumps(const SandboxRecord& sandbox, const ContainerRecord& record,
                                  const std::string& folder) const {
  BERTH_ASSIGN(const std::string spec, os::read_file(dir_of(record) + "/config.json", kMaxSpec), "specification");
  BERTH_TRY(os::write_file_atomic(folder + "/spec.dump", spec, 0600), "spec.dump");
  return os::write_file_atomic(folder + "/config.dump", config_dump(record, sandbox.handler, wall_now_ns()), 0600);
}

Result<pb::CheckpointContainerResponse> ServiceImpl::checkpoint_container(
    const Call& call, const pb::CheckpointContainerRequest& request) {
  BERTH_TRY(check_request(request), "CheckpointContainer");
  BERTH_ASSIGN(const auto found, running_container(request.container_id()), "CheckpointContainer");
  const std::string id = found->id;
  const std::string sandbox_id = found->sandbox_id;
  const auto deadline = checkpoint_deadline(call, request.timeout());
  const std::string& location = request.location();
  auto done = operations_.run("checkpoint " + id + " " + location, "CheckpointContainer " + id, call,
                              [=, this](Operation& operation) -> Result<std::string> {
                                operation.about(sandbox_id, id);
                                const auto pod = make_pod(sandbox_id);
                                const OperationLock::Guard guard(pod->turn, operation);
                                BERTH_TRY(checkpoint_locked(operation, id, location, deadline),
                                          "checkpoint container " + id.substr(0, 13));
                                return std::string();
                              });
  crashpoint("checkpoint.answer");
  if (!done) return fail(std::move(done).error());
  return pb::CheckpointContainerResponse();
}

Result<> ServiceImpl::checkpoint_locked(Operation& operation, const std::string& id, const std::string& location,
                                        SteadyTime deadline) {
  BERTH_ASSIGN(const auto record, running_container(id), "container");
  const auto sandbox = registry_->sandbox(record->sandbox_id);
  if (!sandbox) return fail(Code::kNotFound, "its sandbox was removed");
  BERTH_TRY(check_checkpointable(*sandbox), "sandbox");
  const auto slash = location.rfind('/');
  // criu's files at a place of ours, since the archive is one file; both go with the operation.
  BERTH_TRY(os::make_dirs(checkpoint_folder(), 0700), "folder for checkpoints");
  BERTH_ASSIGN(const Draft files, Draft::begin(checkpoint_notes(), checkpoint_folder()), "folder for checkpoints");
  BERTH_ASSIGN(Draft archive, Draft::begin(checkpoint_notes(), slash == 0 ? "/" : location.substr(0, slash)),
               "location");
  BERTH_TRY(failpoint("checkpoint.noted"), "checkpoint");
  BERTH_TRY(os::make_dirs(files.path(), 0700), "folder for checkpoints");
  BERTH_TRY(write_checkpoint(operation, *sandbox, {record}, {files.shared_path()}, "", deadline), "runtime");
  BERTH_TRY(write_dumps(*sandbox, *record, files.path()), "archive");
  if (!record->log_path.empty()) {
    BERTH_TRY(copy_log(record->log_path, files.path() + "/container.log"), "container.log");
  }
  const Stage stage(operation, "write the archive", location);
  BERTH_ASSIGN(const UniqueFd out,
               os::open_at(archive.parent_fd(), archive.name(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600),
               "location");
  BERTH_TRY(write_folder_tar(files.path(), out.get()), "archive");
  BERTH_TRY(failpoint("checkpoint.archived"), "checkpoint");
  BERTH_TRY(in_time(deadline), "archive");
  BERTH_TRY(archive.publish(location.substr(slash + 1)), "location");
  crashpoint("checkpoint.published");
  return {};
}

/// A log that is not there, as after a rotation, is no failure of the checkpoint.
Result<> ServiceImpl::copy_log(const std::string& path, const std::string& to) {
  const auto log = os::open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!log && log.error().code() == Code::kNotFound) return {};
  if (!log) return fail(log.error());
  struct stat st{};
  if (::fstat(log->get(), &st) != 0) return fail_errno(errno, "stat " + path);
  if (!S_ISREG(st.st_mode)) return {};
  BERTH_ASSIGN(const UniqueFd out, os::open_file(to, O_WRONLY | O_CREAT | O_EXCL, 0600), "copy");
  std::string buffer(1U << 20, '\0');
  // The container goes on, and writes.
  for (auto left = static_cast<std::size_t>(st.st_size); left > 0;) {
    const ssize_t n = ::read(log->get(), buffer.data(), std::min(buffer.size(), left));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "read " + path);
    if (n == 0) return {};
    BERTH_TRY(os::write_all(out.get(), std::string_view(buffer).substr(0, static_cast<std::size_t>(n))), "copy");
    left -= static_cast<std::size_t>(n);
  }
  return {};
}

}  // namespace berth::cri
