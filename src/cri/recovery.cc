#include <signal.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <system_error>
#include <thread>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/strings.h"
#include "cri/checkpoint_files.h"
#include "cri/pod_files.h"
#include "cri/service_impl.h"
#include "cri/shim_process.h"
#include "image/store.h"
#include "os/file.h"
#include "os/pidfd.h"

/// What a starting daemon does with what an earlier one left. Nothing is guessed: a pod is adopted when its shim
/// answers at the pod's socket with the pod's id, and what no record owns is removed.
namespace berth::cri {

namespace {

namespace bs = ::berth::shim::v1;
using std::chrono::milliseconds;

constexpr milliseconds kConnect{3000};
constexpr milliseconds kInfo{5000};
constexpr milliseconds kEnd{5000};
constexpr const char* kBootKey = "boot_id";
constexpr std::int32_t kUnknownExit = 255;
constexpr std::int32_t kKilledExit = 137;
// Shims asked at the same time; one that hangs delays the others no more than its share.
constexpr std::size_t kParallel = 16;

void warn(const char* what, const std::string& id, const Result<>& result) {
  if (!result) log_warn(what, {{"id", id}, {"err", result.error().text()}});
}

}  // namespace

Result<> ServiceImpl::recover() {
  std::vector<Timeline> timelines;
  BERTH_ASSIGN(const auto unreadable, registry_->load(timelines), "load");
  timelines_.load(std::move(timelines), [this](const std::string& id) { return registry_->sandbox(id) != nullptr; });
  BERTH_TRY(load_detached(), "load");
  crashpoint("recover.loaded");
  for (const auto& text : unreadable) log_error("a record cannot be read and is passed over", {{"err", text}});
  BERTH_ASSIGN(const auto boot, db_->meta(kBootKey), "load");
  const bool rebooted = boot != host_.boot_id;
  if (rebooted && !boot.empty()) log_info("the machine was restarted: what ran is gone");

  const auto sandboxes = registry_->sandboxes();
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < sandboxes.size(); i = next++) recover_sandbox(sandboxes[i], rebooted);
  };
  std::vector<std::thread> helpers;
  for (std::size_t i = 1; i < std::min(kParallel, sandboxes.size()); ++i) {
    try {
      helpers.emplace_back(work);
    } catch (const std::system_error&) {
      break;  // fewer do as well
    }
  }
  work();
  for (auto& helper : helpers) helper.join();

  for (const auto& container : registry_->containers()) {
    if (container->phase == ContainerPhase::kCreating || !registry_->sandbox(container->sandbox_id)) {
      undo_container(*container);
    }
  }
  crashpoint("recover.containers");
  retry_detached();
  remove_unowned();
  clear_noted(checkpoint_notes());
  crashpoint("recover.unowned");
  // Last: a daemon that dies in here finds the old mark again and does it once more.
  if (rebooted) BERTH_TRY(db_->set_meta(kBootKey, host_.boot_id), "note the boot");
  finish_half_done();
  return {};
}

void ServiceImpl::recover_sandbox(const SandboxPtr& found, bool rebooted) {
  SandboxPtr record = found;
  if (record->state == SandboxState::kRestoring) {
    // Nobody has been told of it: it goes as a whole, like one whose removal was cut off.
    auto marked = registry_->update_sandbox(record->id, [](SandboxRecord& next) {
      next.state = SandboxState::kRemoving;
      return true;
    });
    if (!marked) return warn("a half-restored pod is not removed yet", record->id, fail(marked.error()));
    record = *marked;
    crashpoint("restore.recovered");
  }
  if (record->state == SandboxState::kPreparing) {
    warn("a half-made sandbox is not undone yet", record->id, undo_sandbox(*record));
    return;
  }
  if (record->state == SandboxState::kStopped || record->state == SandboxState::kRemoving) {
    // Nothing of it can run; a daemon that was killed in between may have left a container that is said to.
    if (record->shim_pid == 0) containers_died(record->id, "ShimDied", "the pod was stopped", kKilledExit);
  }
  auto adopted = rebooted ? Result<>(fail(Code::kUnavailable, "the machine was restarted")) : adopt(*record);
  if (adopted) return;
  const std::string message = adopted.error().text();
  if (record->state == SandboxState::kReady || record->state == SandboxState::kStopping) {
    log_warn("a pod has ended while no daemon was there", {{"sandbox", record->id}, {"err", message}});
  }
  // After a restart of the machine nobody saw how they ended; a shim takes its containers along by SIGKILL.
  containers_died(record->id, rebooted ? "Unknown" : "ShimDied", message, rebooted ? kUnknownExit : kKilledExit);
  crashpoint("recover.pod-died");
  auto stored = registry_->update_sandbox(record->id, [&message](SandboxRecord& next) {
    if (next.state != SandboxState::kReady) return false;
    next.state = SandboxState::kStopping;
    next.message = message;
    next.shim_pid = 0;
    return true;
  });
  if (!stored) log_error("a pod's end cannot be recorded", {{"sandbox", record->id}, {"err", stored.error().text()}});
  if (!rebooted && record->shim_pid > 0) {
    warn("what a shim left stays for now", record->id,
         clean_after_shim(options_.shim_path, dir_of(record->id), record->id));
  }
}

/// Connects to the pod's shim and takes over what it knows. Errors: the shim is gone, or is not this pod's.
Result<> ServiceImpl::adopt(const SandboxRecord& record) {
  if (record.state == SandboxState::kStopped || record.state == SandboxState::kRemoving) {
    // A shim that should be gone is ended by what is finished later.
    if (record.shim_pid == 0) return {};
  }
  // By pid and start time first: a shim that hangs is still this pod's shim.
  UniqueFd pidfd;
  if (auto opened = os::open_pidfd(record.shim_pid)) {
    const auto started = os::process_start_time(record.shim_pid);
    if (started && *started == record.shim_start) pidfd = std::move(*opened);
  }
  if (!pidfd) return fail(Code::kUnavailable, "the pod's shim (pid " + std::to_string(record.shim_pid) + ") is gone");
  const auto pod = make_pod(record.id);
  auto link = ShimLink::connect(*reactor_, shim_socket(dir_of(record.id)), kConnect);
  auto info = link ? (*link)->pod_info(kInfo) : Result<bs::PodInfoResponse>(fail(link.error()));
  if (!info && info.error().code() == Code::kTimeout && link) {
    // It hangs (a stopped process, a dead disk): what is recorded stays true until it answers.
    log_warn("a shim does not answer", {{"sandbox", record.id}, {"err", info.error().text()}});
    pod->attach(*link, std::move(pidfd), record.shim_pid);
    follow_events(pod, *link, 0);
    return {};
  }
  if (info && info->sandbox_id() != record.id) {
    info = fail(Code::kCorrupt, "the shim at its socket serves another pod, " + info->sandbox_id());
  }
  if (!info) {
    auto ended = end_process(pidfd.get(), kEnd);
    ignore(ended, "the pod counts as ended either way");
    drop_pod(record.id);
    return fail(std::move(info).error());
  }
  pod->attach(*link, std::move(pidfd), record.shim_pid);
  crashpoint("recover.attached");
  std::set<std::string, std::less<>> known;
  for (const auto& container : info->containers()) {
    known.insert(container.id());
    auto taken = take_over(container);
    if (!taken && taken.error().code() != Code::kNotFound) return fail(std::move(taken).error());
    crashpoint("recover.taken-over");
    const bool stopped = container.state() == bs::CONTAINER_STATE_STOPPED;
    if (!taken || (stopped && (*taken)->phase == ContainerPhase::kExited)) {
      warn("a container that is over stays in its shim", container.id(), (*link)->purge(container.id()));
    }
  }
  for (const auto& container : registry_->containers_of(record.id)) {
    if (known.contains(container->id) || !container->create_error.empty()) continue;
    auto stored = registry_->update_container(container->id, [](ContainerRecord& next) {
      const bool lives = next.phase == ContainerPhase::kCreated || next.phase == ContainerPhase::kStarting ||
                         next.phase == ContainerPhase::kRunning;
      if (!lives) return false;
      next.phase = ContainerPhase::kExited;
      next.exit_code = kUnknownExit;
      next.reason = "Unknown";
      next.message = "the pod's shim does not know it";
      next.pid = 0;
      next.finished_at_ns = wall_now_ns();
      return true;
    });
    if (!stored) return fail(std::move(stored).error());
  }
  follow_events(pod, *link, 0);
  return {};
}

/// Takes back a sandbox whose making was cut off, whatever of it is there.
Result<> ServiceImpl::undo_sandbox(const SandboxRecord& record) {
  BERTH_TRY(kill_unrecorded_shims(options_.shim_path, record.id), "shim");
  crashpoint("recover.pod-shim");
  if (record.network_held) BERTH_TRY(options_.network->remove(pod_network(record, -1)), "network");
  crashpoint("recover.pod-network");
  auto cgroups = release_cgroups(record);
  ignore(cgroups, "a sandbox that was not ready had no containers, so there is hardly one");
  BERTH_TRY(os::remove_tree(dir_of(record.id)), "folder");
  crashpoint("recover.pod-folder");
  BERTH_TRY(registry_->erase_sandbox(record.id), "record");
  timelines_.removed(record.id);
  return {};
}

void ServiceImpl::undo_container(const ContainerRecord& record) {
  if (const auto link = link_of(record.sandbox_id)) {
    warn("a half-made container stays in its shim", record.id, (*link)->purge(record.id));
  }
  crashpoint("recover.container-shim");
  warn("a half-made container's root file system stays", record.id, options_.images->remove_rootfs(record.id));
  warn("a half-made container's image volumes stay", record.id, remove_volumes(record));
  crashpoint("recover.container-rootfs");
  warn("a half-made container's folder stays", record.id, os::remove_tree(dir_of(record)));
  warn("a half-made container's record stays", record.id, registry_->erase_container(record.id));
}

/// Goes on with stops and removals that were cut off.
void ServiceImpl::finish_half_done() {
  for (const auto& record : registry_->sandboxes()) {
    if (record->state != SandboxState::kStopping && record->state != SandboxState::kRemoving) continue;
    const bool remove = record->state == SandboxState::kRemoving;
    const std::string key = (remove ? "remove-sandbox " : "stop-sandbox ") + record->id;
    operations_.start(key, "finish " + key,
                      [this, id = record->id, remove](Operation& operation) -> Result<std::string> {
                        operation.about(id);
                        const auto pod = make_pod(id);
                        const OperationLock::Guard guard(pod->turn, operation);
                        auto done = remove ? remove_sandbox(operation, id) : stop_sandbox(operation, id);
                        warn("a pod is not taken down yet", id, done);
                        if (!done) return fail(std::move(done).error());
                        return std::string();
                      });
  }
  for (const auto& record : registry_->containers()) {
    if (record->phase != ContainerPhase::kRemoving) continue;
    operations_.start(
        "remove " + record->id, "finish removal of " + record->id,
        [this, id = record->id, sandbox = record->sandbox_id](Operation& operation) -> Result<std::string> {
          operation.about(sandbox, id);
          const auto pod = make_pod(sandbox);
          const OperationLock::Guard guard(pod->turn, operation);
          BERTH_TRY(remove_container_locked(operation, id), "container " + id);
          return std::string();
        });
  }
}

}  // namespace berth::cri
