#include <algorithm>
#include <csignal>

#include "base/failpoint.h"
#include "base/log.h"
#include "cri/service_impl.h"
#include "cri/stuck_tasks.h"
#include "os/process_signals.h"

namespace berth::cri {

namespace {

using std::chrono::steady_clock;

// From SIGKILL to the recorded end. Longer means a task that the kernel cannot end now (state D).
constexpr std::chrono::seconds kKillTime{10};
constexpr std::int64_t kMaxGrace = 365LL * 86400;
// How often a long wait looks whether the daemon ends.
constexpr std::chrono::milliseconds kSlice{500};
// How soon a program that could not take its stop signal is looked at again.
constexpr std::chrono::milliseconds kFirstLook{10};

bool over(const ContainerRecord* record) {
  if (record == nullptr) return true;
  const bool never_was = record->phase == ContainerPhase::kCreated && !record->create_error.empty();
  return never_was || record->phase == ContainerPhase::kExited || record->phase == ContainerPhase::kRemoving ||
         record->phase == ContainerPhase::kCreating;
}

}  // namespace

bool ServiceImpl::wait_until_over(const std::string& id, SteadyTime deadline) {
  for (;;) {
    const auto slice = std::min(deadline, steady_clock::now() + kSlice);
    if (registry_->wait_container(id, slice, over)) return true;
    if (steady_clock::now() >= deadline || ending()) return false;
  }
}

Result<> ServiceImpl::kill_container(Operation& operation, const ContainerRecord& record) {
  if (over(registry_->container(record.id).get())) return {};
  const Stage stage(operation, "kill container", record.id);
  const auto link = link_of(record.sandbox_id);
  // Without a shim nothing runs; its death is being recorded, which is waited for.
  if (link) {
    auto sent = (*link)->kill(record.id, SIGKILL, true);
    crashpoint("stop.killed");
    if (!sent && sent.error().code() != Code::kNotFound && sent.error().code() != Code::kUnavailable &&
        sent.error().code() != Code::kPrecondition) {
      return fail(std::move(sent).error().in("kill container " + record.id.substr(0, 13)));
    }
  }
  if (wait_until_over(record.id, steady_clock::now() + kKillTime)) return {};
  const auto stuck = stuck_tasks(cgroups_, record.cgroups_path);
  return fail(Code::kTimeout, "container " + record.id.substr(0, 13) + " (pid " + std::to_string(record.pid) +
                                  ") does not end after SIGKILL" + (stuck.empty() ? "" : ": " + stuck));
}

bool ServiceImpl::send_stop_signal(ShimLink& link, const ContainerRecord& record) {
  auto sent = link.kill(record.id, record.stop_signal, false);
  crashpoint("stop.signalled");
  if (sent || sent.error().code() == Code::kNotFound || sent.error().code() == Code::kPrecondition) return true;
  MutexLock lock(stop_mutex_);
  stop_sent_.erase(record.id);
  log_warn("the stop signal was not delivered", {{"container", record.id}, {"err", sent.error().text()}});
  return false;
}

// A program that is stopped right after its start has no handler yet, and the kernel drops the signal without a trace:
// it would run through its whole grace and be killed. It gets the signal once it can take it.
Result<> ServiceImpl::signal_and_watch(const ContainerRecord& record, SteadyTime deadline) {
  BERTH_ASSIGN(const auto link, link_of(record.sandbox_id), "stop container");
  const auto dropped = [&record] { return os::drops_signal(record.pid, record.stop_signal).value_or(false); };
  bool lost = dropped();
  if (!send_stop_signal(*link, record)) return {};
  for (auto pause = kFirstLook; lost; pause = std::min(pause * 2, kSlice)) {
    const auto now = steady_clock::now();
    if (wait_until_over(record.id, std::min(deadline, now + pause)) || now >= deadline || ending()) return {};
    lost = dropped();
    if (!lost) (void)send_stop_signal(*link, record);
  }
  return {};
}

Result<> ServiceImpl::stop_gently(Operation& operation, const ContainerRecord& record, std::int64_t grace_s) {
  const auto deadline = steady_clock::now() + std::chrono::seconds(std::min(grace_s, kMaxGrace));
  {
    const Stage stage(operation, "wait for the end after signal", std::to_string(record.stop_signal));
    bool first = false;
    {
      MutexLock lock(stop_mutex_);
      first = stop_sent_.insert(record.id).second;
    }
    if (first) BERTH_TRY(signal_and_watch(record, deadline), "stop");
    if (wait_until_over(record.id, deadline)) return {};
    if (ending()) return fail(Code::kUnavailable, "the daemon ends; a retry goes on");
  }
  return kill_container(operation, record);
}

Result<pb::StopContainerResponse> ServiceImpl::stop_container(const Call& call,
                                                              const pb::StopContainerRequest& request) {
  if (request.timeout() < 0) return fail(Code::kInvalid, "StopContainer: timeout below 0");
  auto found = shown_container(request.container_id());
  if (!found && found.error().code() == Code::kNotFound) return pb::StopContainerResponse();
  if (!found) return fail(std::move(found).error().in("StopContainer"));
  const auto record = *found;
  // One that was never started has no process to stop; removal takes it away.
  if (over(record.get()) || record->phase == ContainerPhase::kCreated) return pb::StopContainerResponse();
  // With the grace in the key: a retry joins, a later call with less patience does not have to.
  const auto grace = request.timeout();
  const std::string key = "stop " + record->id + " " + std::to_string(grace);
  auto done = operations_.run(
      key, "StopContainer " + record->id, call, [this, record, grace](Operation& operation) -> Result<std::string> {
        operation.about(record->sandbox_id, record->id);
        BERTH_TRY(failpoint("stop.begun"), "StopContainer");
        auto stopped = grace == 0 ? kill_container(operation, *record) : stop_gently(operation, *record, grace);
        if (!stopped) return fail(std::move(stopped).error());
        plugins_.tell_ended(record->id);
        return std::string();
      });
  crashpoint("stop.answer");
  if (!done) return fail(std::move(done).error());
  return pb::StopContainerResponse();
}

}  // namespace berth::cri
