#include <fcntl.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <system_error>
#include <thread>

#include "base/failpoint.h"
#include "base/log.h"
#include "cri/service_impl.h"
#include "cri/shim_process.h"
#include "cri/stuck_tasks.h"
#include "os/file.h"
#include "os/pidfd.h"

namespace berth::cri {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kShimEnd{5000};

/// The network namespace of the pod through its shim, or nothing when the shim is gone.
UniqueFd open_netns(const SandboxRecord& record, const Pod* pod) {
  if (record.host_network || pod == nullptr) return {};
  const auto pidfd = pod->pidfd();
  const pid_t pid = pod->shim_pid();
  if (!pidfd || pid <= 0) return {};
  auto netns = os::open_file("/proc/" + std::to_string(pid) + "/ns/net", O_RDONLY);
  // Only if the process was still the shim after the open was it the shim's namespace.
  const auto alive = os::pidfd_signal(pidfd.get(), 0);
  if (!netns || !alive) return {};
  return std::move(*netns);
}

}  // namespace

Result<pb::StopPodSandboxResponse> ServiceImpl::stop_pod_sandbox(const Call& call,
                                                                 const pb::StopPodSandboxRequest& request) {
  auto found = shown_sandbox(request.pod_sandbox_id());
  if (!found && found.error().code() == Code::kNotFound) return pb::StopPodSandboxResponse();
  if (!found) return fail(std::move(found).error().in("StopPodSandbox"));
  const std::string id = (*found)->id;
  auto done = operations_.run("stop-sandbox " + id, "StopPodSandbox " + id, call,
                              [this, id](Operation& operation) -> Result<std::string> {
                                operation.about(id);
                                const auto pod = make_pod(id);
                                const OperationLock::Guard guard(pod->turn, operation);
                                BERTH_TRY(stop_sandbox(operation, id), "stop sandbox " + id.substr(0, 13));
                                return std::string();
                              });
  crashpoint("stop-pod.answer");
  if (!done) return fail(std::move(done).error());
  return pb::StopPodSandboxResponse();
}

/// Takes down everything that runs; what cannot be taken down does not keep the rest from it. The pod's lock is held.
Result<> ServiceImpl::stop_sandbox(Operation& operation, const std::string& id) {
  const auto before = registry_->sandbox(id);
  if (!before) return {};
  if (before->state == SandboxState::kStopped && !before->network_held) return {};
  auto changed = registry_->update_sandbox(id, [](SandboxRecord& record) {
    if (record.state != SandboxState::kReady) return false;
    record.state = SandboxState::kStopping;
    return true;
  });
  if (!changed) return fail(std::move(changed).error());
  const SandboxRecord& record = **changed;
  BERTH_TRY(failpoint("stop-pod.recorded"), "StopPodSandbox");
  const auto pod = find_pod(id);
  const UniqueFd netns = open_netns(record, pod.get());
  const bool ended = stop_all_containers(operation, record, pod.get());
  crashpoint("stop-pod.containers");
  for (const auto& container : registry_->containers_of(id)) {
    if (container->phase == ContainerPhase::kExited) plugins_.tell_ended(container->id);
  }
  if (before->state != SandboxState::kStopped) plugins_.stop_pod(operation, record);

  // The namespace is held by us now, so network and shim need not wait for each other.
  Result<> network;
  std::optional<std::thread> network_thread;
  if (record.network_held) {
    const auto release = [&] {
      network = release_network(operation, record, netns.get());
      crashpoint("stop-pod.network");
    };
    try {
      network_thread.emplace(release);
    } catch (const std::system_error&) {
      release();
    }
  }
  Result<> shim;
  if (pod) shim = end_shim(operation, record, *pod, ended);
  crashpoint("stop-pod.shim");
  if (network_thread) network_thread->join();
  BERTH_TRY(std::move(shim), "pod");
  BERTH_TRY(release_pod_cgroups(operation, record), "pod");
  BERTH_TRY(failpoint("stop-pod.cgroups"), "StopPodSandbox");
  auto stored = registry_->update_sandbox(id, [&](SandboxRecord& next) {
    if (next.state != SandboxState::kRemoving) next.state = SandboxState::kStopped;
    next.network_held = next.network_held && !network;
    next.shim_pid = 0;
    return true;
  });
  if (!stored) return fail(std::move(stored).error());
  crashpoint("stop-pod.stored");
  return network;
}

bool ServiceImpl::stop_all_containers(Operation& operation, const SandboxRecord& record, Pod* pod) {
  const auto containers = registry_->containers_of(record.id);
  const auto link =
      pod == nullptr ? Result<std::shared_ptr<ShimLink>>(fail(Code::kUnavailable, "no shim")) : pod->link();
  if (!link) return true;
  const auto give_up = [&record](const Error& error) {
    log_warn("containers are ended with their shim", {{"sandbox", record.id}, {"err", error.text()}});
    return false;
  };
  // All are told first, then each is waited for.
  bool asked = containers.empty();
  for (const auto& container : containers) {
    if (container->phase == ContainerPhase::kExited) continue;
    asked = true;
    const Stage stage(operation, "kill container", container->id);
    const auto sent = (*link)->kill(container->id, SIGKILL, true);
    // A shim that hangs is waited for once, not for each of its containers.
    if (!sent && sent.error().code() == Code::kTimeout) return give_up(sent.error());
  }
  // Nobody was killed: whether it answers is asked by a call that is not worth waiting for.
  if (!asked) {
    const auto info = (*link)->pod_info(kShimEnd);
    if (!info && info.error().code() == Code::kTimeout) return give_up(info.error());
  }
  for (const auto& container : containers) {
    if (container->phase == ContainerPhase::kCreating) continue;
    const auto killed = kill_container(operation, *container);
    if (!killed) return give_up(killed.error());
    auto removed = (*link)->remove(container->id);
    ignore(removed, "what the shim still holds goes with it");
  }
  return true;
}

Result<> ServiceImpl::release_network(Operation& operation, const SandboxRecord& record, int netns_fd) {
  const Stage stage(operation, "network detach", record.id);
  auto removed = options_.network->remove(pod_network(record, netns_fd));
  MutexLock lock(network_mutex_);
  if (removed) {
    network_failed_.erase(record.id);
    return {};
  }
  log_warn("a pod's network is not given back yet, it is tried again",
           {{"sandbox", record.id}, {"err", removed.error().text()}});
  // The first failure is told, so that the kubelet's event names the cause; afterwards the pod may go, and what is left
  // is noted by the network and tried again in the background.
  const bool told = !network_failed_.insert(record.id).second;
  if (told) return {};
  return fail(std::move(removed).error().in("network detach"));
}

bool ServiceImpl::tasks_are_stuck(const std::string& sandbox_id) const {
  return std::ranges::any_of(registry_->containers_of(sandbox_id), [this](const ContainerPtr& container) {
    return !stuck_tasks(cgroups_, container->cgroups_path).empty();
  });
}

Result<> ServiceImpl::end_shim(Operation& operation, const SandboxRecord& record, Pod& pod, bool ask) {
  const auto pidfd = pod.pidfd();
  const Stage stage(operation, "end the shim", record.id);
  if (!pidfd) {
    // It has died before. Whoever noticed may still be clearing up after it, or may never have come to it.
    if (os::exists(dir_of(record.id) + "/live")) {
      BERTH_TRY(clean_after_shim(options_.shim_path, dir_of(record.id), record.id), "end the shim");
    }
    // Before the pod counts as stopped: afterwards nobody looks whether its containers were recorded as ended.
    containers_died(record.id, "ShimDied", "the pod's shim had ended", 137);
    return {};
  }
  pod.expect_end();
  const auto link = pod.link();
  auto asked = link && ask ? (*link)->shutdown(true) : Result<>(fail(Code::kUnavailable, "not asked"));
  crashpoint("stop-pod.shutdown");
  const auto ended = os::wait_readable(pidfd.get(), asked ? kShimEnd : milliseconds(0));
  const bool clean = ended && *ended && asked;
  auto killed = ended && *ended ? Result<>() : end_process(pidfd.get(), kShimEnd);
  if (!killed && !leave_shim(record, pod)) {
    return fail(std::move(killed).error().in("end the shim of pod " + record.id.substr(0, 13)));
  }
  auto reaped = os::reap(pidfd.get());
  ignore(reaped, "a shim of an earlier daemon is not our child");
  pod.detach();
  containers_died(record.id, "Error",
                  clean ? "ended with its pod" : "ended with the pod's shim, which had to be killed", 137);
  if (clean) return {};
  auto cleaned = clean_after_shim(options_.shim_path, dir_of(record.id), record.id);
  if (!cleaned && tasks_are_stuck(record.id)) {
    log_warn("what a shim left is given back later", {{"sandbox", record.id}, {"err", cleaned.error().text()}});
    return {};
  }
  return cleaned;
}

Result<> ServiceImpl::release_cgroups(const SandboxRecord& record) {
  if (record.cgroup_top.empty()) return {};
  MutexLock lock(cgroup_mutex_);
  const auto all = registry_->sandboxes();
  const auto gone = [](const SandboxRecord& other) {
    return other.state == SandboxState::kStopped || other.state == SandboxState::kRemoving;
  };
  // Of two pods that end at once, each would otherwise leave the shared part to the other.
  cgroups_released_.insert(record.id);
  std::erase_if(cgroups_released_, [&](const std::string& id) {
    const auto other = registry_->sandbox(id);
    return !other || gone(*other);
  });
  if (record.systemd_cgroups) {
    // It ends by itself with the shim, and systemd may be about to see that. The lock is held while systemd works: a
    // pod that came into the slice meanwhile would end with it.
    BERTH_TRY(end_unit(record.cgroup_parent + "/" + scope_name(record.id)), "pod");
  }
  // From the pod's own cgroup up to the part that was made for our pods, as long as no other pod lives below it.
  for (std::string path = record.cgroup_parent; path.size() >= record.cgroup_top.size() && path.size() > 1;
       path.resize(path.rfind('/'))) {
    const bool shared = std::ranges::any_of(all, [&](const SandboxPtr& other) BERTH_REQUIRES(cgroup_mutex_) {
      return !gone(*other) && !cgroups_released_.contains(other->id) &&
             (other->cgroup_parent == path || other->cgroup_parent.starts_with(path + "/"));
    });
    if (shared) return {};
    if (!record.systemd_cgroups) {
      BERTH_TRY(remove_cgroups(cgroups_, path), "pod");
      continue;
    }
    BERTH_ASSIGN(const bool ended, end_empty_slice(path), "pod");
    if (!ended) return {};
  }
  return {};
}

/// Tries again what could not be given back: from the stats thread, every few rounds.
void ServiceImpl::retry_networks() {
  for (const auto& id : options_.network->holders()) {
    const auto record = registry_->sandbox(id);
    if (record && record->state != SandboxState::kStopped) continue;
    network::PodNetwork unknown;
    unknown.sandbox_id = id;
    auto removed = options_.network->remove(record ? pod_network(*record, -1) : unknown);
    if (!removed) {
      log_debug("a network is still not given back", {{"sandbox", id}, {"err", removed.error().text()}});
      continue;
    }
    MutexLock lock(network_mutex_);
    network_failed_.erase(id);
    if (record) {
      auto stored =
          registry_->update_sandbox(id, [](SandboxRecord& next) { return std::exchange(next.network_held, false); });
      ignore(stored, "the next stop or start tries once more, which is harmless");
    }
  }
}

}  // namespace berth::cri
