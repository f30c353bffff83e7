#include <optional>

#include "base/failpoint.h"
#include "base/log.h"
#include "cri/service_impl.h"

namespace berth::cri {

namespace {

// What a shell and containerd answer for a program that could not be started.
constexpr std::int32_t kStartErrorCode = 128;

}  // namespace

Result<pb::StartContainerResponse> ServiceImpl::start_container(const Call& call,
                                                                const pb::StartContainerRequest& request) {
  BERTH_ASSIGN(const auto found, shown_container(request.container_id()), "StartContainer");
  const std::string id = found->id;
  const std::string sandbox_id = found->sandbox_id;
  auto done = operations_.run("start " + id, "StartContainer " + id, call,
                              [this, id, sandbox_id](Operation& operation) -> Result<std::string> {
                                operation.about(sandbox_id, id);
                                const auto pod = make_pod(sandbox_id);
                                const OperationLock::Guard guard(pod->turn, operation);
                                BERTH_TRY(start_locked(operation, id), "start container " + id.substr(0, 13));
                                return std::string();
                              });
  crashpoint("start.answer");
  if (!done) return fail(std::move(done).error());
  return pb::StartContainerResponse();
}

Result<> ServiceImpl::start_locked(Operation& operation, const std::string& id) {
  const auto record = registry_->container(id);
  if (!record) return fail(Code::kNotFound, "no container " + id);
  if (record->phase == ContainerPhase::kRunning) return {};  // a retry of a call whose answer was lost
  if (record->phase != ContainerPhase::kCreated && record->phase != ContainerPhase::kStarting) {
    return fail(Code::kPrecondition, "it is " + std::string(phase_name(record->phase)) + ", not created");
  }
  const auto sandbox = registry_->sandbox(record->sandbox_id);
  if (!sandbox || sandbox->state != SandboxState::kReady) {
    return fail(Code::kPrecondition,
                "its sandbox is not ready" + (sandbox && !sandbox->message.empty() ? ": " + sandbox->message : ""));
  }
  BERTH_ASSIGN(const auto link, link_of(record->sandbox_id), "shim");
  if (!record->create_error.empty()) return start_failed(*link, id, Error(Code::kInvalid, record->create_error));
  BERTH_TRY(plugins_.start_container(operation, *record), "plugins");
  std::optional<Stage> stage;
  stage.emplace(operation, "note the intent", id);
  auto marked = registry_->update_container(id, [](ContainerRecord& next) {
    next.phase = ContainerPhase::kStarting;
    return true;
  });
  if (!marked) return fail(std::move(marked).error());
  stage.reset();
  stage.emplace(operation, "start the program", id);
  BERTH_TRY(failpoint("start.recorded"), "StartContainer");
  auto pid = link->start(id);
  crashpoint("start.started");
  stage.reset();
  if (!pid) return start_failed(*link, id, std::move(pid).error());
  const Stage storing(operation, "store the record", id);
  auto stored = registry_->update_container(id, [&](ContainerRecord& next) {
    // The event of its start, or of its end, may have come first.
    if (next.phase != ContainerPhase::kStarting) return false;
    next.pid = *pid;
    if (next.started_at_ns == 0) next.started_at_ns = wall_now_ns();
    next.phase = ContainerPhase::kRunning;
    return true;
  });
  if (!stored) return fail(std::move(stored).error());
  crashpoint("start.stored");
  sample_now(**stored);
  plugins_.started(**stored);
  return {};
}

/// Whether the program runs is known when the shim said no; when the shim was silent, its events will tell.
Result<> ServiceImpl::start_failed(ShimLink& link, const std::string& id, Error error) {
  const Code code = error.code();
  const bool unknown = code == Code::kTimeout || code == Code::kUnavailable || code == Code::kCancelled;
  // "Was started before" is no failure to start: an earlier call did it, and an event says what became of it.
  if (unknown || code == Code::kPrecondition) return fail(std::move(error));
  auto stored = registry_->update_container(id, [&](ContainerRecord& next) {
    if (next.phase == ContainerPhase::kRemoving) return false;
    next.phase = ContainerPhase::kExited;
    next.exit_code = kStartErrorCode;
    next.reason = "StartError";
    next.message = error.text();
    next.pid = 0;
    next.finished_at_ns = wall_now_ns();
    if (next.started_at_ns == 0) next.started_at_ns = next.finished_at_ns;
    return true;
  });
  if (!stored) return fail(std::move(stored).error());
  crashpoint("start.failed");
  plugins_.ended(id);
  auto removed = link.remove(id);
  if (!removed && removed.error().code() != Code::kNotFound) {
    log_warn("the shim keeps a container that did not start", {{"container", id}, {"err", removed.error().text()}});
  }
  return fail(std::move(error));
}

}  // namespace berth::cri
