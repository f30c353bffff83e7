#include <chrono>
#include <thread>

#include "base/failpoint.h"
#include "base/log.h"
#include "cri/pod_files.h"
#include "cri/service_impl.h"
#include "cri/shim_process.h"
#include "os/pidfd.h"

namespace berth::cri {

namespace {

namespace bs = ::berth::shim::v1;
using std::chrono::milliseconds;

// From the end of the connection to the end of the process that held it.
constexpr milliseconds kDeathTime{2000};
constexpr milliseconds kReconnect{5000};
constexpr milliseconds kReconnectPause{200};
constexpr milliseconds kInfoTime{10'000};

void set_exit(ContainerRecord& record, const bs::ContainerInfo& info) {
  record.phase = ContainerPhase::kExited;
  record.exit_code = static_cast<std::int32_t>(info.exit_code());
  record.finished_at_ns = info.exited_at_ns() > 0 ? info.exited_at_ns() : wall_now_ns();
  record.pid = 0;
  if (info.oom_killed()) {
    record.reason = "OOMKilled";
  } else if (!info.reason().empty()) {
    record.reason = info.reason();
  } else {
    record.reason = info.exit_code() == 0 ? "Completed" : "Error";
  }
  record.message = info.message();
  if (info.log_bytes_dropped() > 0) {
    if (!record.message.empty()) record.message.append("; ");
    record.message += std::to_string(info.log_bytes_dropped()) + " bytes of its output could not be written to the log";
  }
}

/// Empty for an end that is none to explain.
std::string end_text(const ContainerRecord& record) {
  if (record.exit_code == 0 && record.message.empty()) return {};
  std::string text = record.reason + ", exit code " + std::to_string(record.exit_code);
  if (!record.message.empty()) text.append(": ").append(record.message);
  return text;
}

}  // namespace

Result<ContainerPtr> ServiceImpl::take_over(const bs::ContainerInfo& info) {
  bool ended = false;
  auto taken = registry_->update_container(info.id(), [&info, &ended](ContainerRecord& record) {
    const bool lives = record.phase == ContainerPhase::kCreated || record.phase == ContainerPhase::kStarting ||
                       record.phase == ContainerPhase::kRunning;
    if (!lives) return false;
    if (info.started_at_ns() > 0) record.started_at_ns = info.started_at_ns();
    switch (info.state()) {
      case bs::CONTAINER_STATE_STOPPED:
        set_exit(record, info);
        ended = true;
        return true;
      case bs::CONTAINER_STATE_RUNNING:
      case bs::CONTAINER_STATE_PAUSED:
        if (record.phase == ContainerPhase::kRunning && record.pid == static_cast<pid_t>(info.pid())) return false;
        record.phase = ContainerPhase::kRunning;
        record.pid = static_cast<pid_t>(info.pid());
        return true;
      default:
        return false;
    }
  });
  if (taken && ended) {
    if (info.log_bytes_dropped() > 0) stats_.put_log_dropped(info.id(), info.log_bytes_dropped());
    const auto& record = **taken;
    note_event(record.sandbox_id, record.id, "container " + record.config.metadata().name() + " ended",
               end_text(record));
    plugins_.ended(record.id);
  }
  return taken;
}

void ServiceImpl::follow_events(const std::shared_ptr<Pod>& pod, const std::shared_ptr<ShimLink>& link,
                                std::uint64_t seq) {
  // Asked on the reactor's thread, answered there, handled by a worker: the next question is asked only when the answer
  // has been handled, so a pod's events stay in order. An idle pod costs no thread.
  link->wait_event(seq, [this, pod, link](Result<bs::WaitEventResponse> events) {
    if (ending()) return;
    workers_.post([this, pod, link, events = std::move(events)] {
      if (events) {
        handle_events(pod, link, *events);
      } else if (events.error().code() == Code::kTimeout && link->alive()) {
        follow_events(pod, link, 0);
      } else {
        handle_lost_shim(pod, events.error());
      }
    });
  });
}

void ServiceImpl::handle_events(const std::shared_ptr<Pod>& pod, const std::shared_ptr<ShimLink>& link,
                                const bs::WaitEventResponse& events) {
  for (const auto& info : events.changed()) {
    const bool ended = info.state() == bs::CONTAINER_STATE_STOPPED;
    if (ended) crashpoint("exit.heard");
    auto record = take_over(info);
    if (ended) crashpoint("exit.stored");
    if (!record) {
      // kNotFound: it is being created or was removed, and who does that knows.
      if (record.error().code() != Code::kNotFound) {
        log_error("a container's change cannot be recorded",
                  {{"container", info.id()}, {"err", record.error().text()}});
      }
      continue;
    }
    // The exit is durable: the shim need not keep it, and its cgroup goes.
    if (ended && (*record)->phase == ContainerPhase::kExited) {
      auto removed = link->remove(info.id());
      crashpoint("exit.removed");
      ignore(removed, "stop and removal of the container ask again");
    }
  }
  if (!events.pod_end().empty()) pod_is_over(pod->id(), events.pod_end());
  follow_events(pod, link, events.seq());
}

/// Nothing can be started in it any more, though its shim lives: a kubelet makes another one when it is told so.
void ServiceImpl::pod_is_over(const std::string& sandbox_id, const std::string& why) {
  bool news = false;
  auto stored = registry_->update_sandbox(sandbox_id, [&](SandboxRecord& record) {
    if (record.state != SandboxState::kReady) return false;
    record.state = SandboxState::kStopping;  // as after the death of a shim
    record.message = why;
    return news = true;
  });
  crashpoint("pod-end.recorded");
  if (!stored && stored.error().code() != Code::kNotFound) {
    log_error("the end of a pod cannot be recorded", {{"sandbox", sandbox_id}, {"err", stored.error().text()}});
  }
  if (news) note_event(sandbox_id, {}, "the pod's pid namespace ended", why);
}

void ServiceImpl::handle_lost_shim(const std::shared_ptr<Pod>& pod, const Error& error) {
  if (pod->end_expected() || ending()) return;
  const auto pidfd = pod->pidfd();
  if (!pidfd) return;
  const auto dead = os::wait_readable(pidfd.get(), kDeathTime);
  if (!dead || !*dead) {
    // It lives: a broken connection is made anew; a shim that refuses is no shim any more. Not in a tight circle,
    // should one take every connection and break it.
    std::this_thread::sleep_for(kReconnectPause);
    auto link = ShimLink::connect(*reactor_, shim_socket(dir_of(pod->id())), kReconnect);
    auto info = link ? (*link)->pod_info(kInfoTime) : Result<bs::PodInfoResponse>(fail(link.error()));
    if (info && info->sandbox_id() == pod->id()) {
      log_warn("connected to a shim anew", {{"sandbox", pod->id()}, {"err", error.text()}});
      pod->reconnect(*link);
      return follow_events(pod, *link, 0);
    }
    if (pod->end_expected() || ending()) return;
    log_error("a shim does not answer any more and is ended", {{"sandbox", pod->id()}, {"err", error.text()}});
    auto ended = end_process(pidfd.get(), kReconnect);
    return shim_has_died(*pod, ended ? "did not answer and was killed" : "does not answer and cannot be killed");
  }
  const std::string pid = "the pod's shim (pid " + std::to_string(pod->shim_pid()) + ") ";
  std::string how = pid + "has ended";
  if (const auto end = os::reap(pidfd.get()); end && end->has_value()) {
    how = pid + ((*end)->signaled ? "was killed by signal " : "ended with code ") + std::to_string((*end)->value);
  }
  shim_has_died(*pod, how);
}

void ServiceImpl::shim_has_died(Pod& pod, const std::string& how) {
  log_error("a pod has lost its shim", {{"sandbox", pod.id()}, {"err", how}});
  crashpoint("shim-death.seen");
  pod.detach();
  auto stored = registry_->update_sandbox(pod.id(), [&how](SandboxRecord& record) {
    if (record.state != SandboxState::kReady) return false;
    record.state = SandboxState::kStopping;  // what it holds is given back by StopPodSandbox, or after a restart
    record.message = how;
    record.shim_pid = 0;
    return true;
  });
  if (!stored)
    log_error("the end of a pod cannot be recorded", {{"sandbox", pod.id()}, {"err", stored.error().text()}});
  crashpoint("shim-death.recorded");
  note_event(pod.id(), {}, "the pod's shim ended", how);
  // First: what an external runtime has started outlives the shim until then, and its bundles are in use.
  auto cleaned = clean_after_shim(options_.shim_path, dir_of(pod.id()), pod.id());
  if (!cleaned) log_warn("what a shim left stays for now", {{"sandbox", pod.id()}, {"err", cleaned.error().text()}});
  containers_died(pod.id(), "ShimDied", how, 137);
  crashpoint("shim-death.containers");
}

void ServiceImpl::containers_died(const std::string& sandbox_id, const std::string& reason, const std::string& message,
                                  std::int32_t exit_code) {
  for (const auto& container : registry_->containers_of(sandbox_id)) {
    const auto noted = read_exit_note(dir_of(*container));
    auto stored = registry_->update_container(container->id, [&](ContainerRecord& record) {
      const bool lives = record.phase == ContainerPhase::kCreated || record.phase == ContainerPhase::kStarting ||
                         record.phase == ContainerPhase::kRunning;
      if (!lives) return false;
      record.phase = ContainerPhase::kExited;
      record.pid = 0;
      if (noted) {
        // It had ended before its shim did, which could not tell any more.
        record.exit_code = noted->code;
        record.reason = noted->reason;
        record.finished_at_ns = noted->at_ns;
        return true;
      }
      record.exit_code = exit_code;
      record.reason = reason;
      record.message = message;
      record.finished_at_ns = wall_now_ns();
      return true;
    });
    if (stored) plugins_.ended(container->id);
    if (!stored && stored.error().code() != Code::kNotFound) {
      log_error("the end of a container cannot be recorded",
                {{"container", container->id}, {"err", stored.error().text()}});
    }
  }
}

}  // namespace berth::cri
