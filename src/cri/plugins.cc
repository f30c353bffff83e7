#include "cri/plugins.h"

#include <set>

#include "base/log.h"
#include "cri/cdi_devices.h"
#include "cri/cdi_file.h"
#include "os/file.h"

namespace berth::cri {

namespace {

constexpr std::size_t kMaxSpec = 16U << 20;

std::string stage_name(nri_api::Event event) {
  return "ask the NRI plugins, " + std::string(nri::event_name(event));
}

}  // namespace

void Plugins::open(nri::Options options, ttrpc::Reactor& reactor, Needs needs) {
  needs_ = std::move(needs);
  nri::Host host;
  host.run = [this](std::function<void()> job) { needs_.workers->post(std::move(job)); };
  host.state = [this](const nri::UnderWay& under_way) { return state(under_way); };
  host.update = [this](const nri_api::ContainerUpdate& update) {
    return needs_.update(update.container_id(), update.linux().resources());
  };
  host.evict = [this](const nri::Eviction& eviction) { return needs_.evict(eviction); };
  nri_ = std::make_unique<nri::Nri>(std::move(options), reactor, std::move(host));
}

void Plugins::start() {
  if (nri_) nri_->start();
}

void Plugins::stop() {
  if (nri_) nri_->stop();
}

/// As the specification in the bundle has it, which an earlier daemon may have written.
nri_api::Container Plugins::view(const ContainerRecord& container) const {
  const auto text = os::read_file(needs_.bundle(container) + "/config.json", kMaxSpec);
  if (!text) return plugin_view(container, nullptr);
  const auto spec = spec::parse_spec(*text);
  auto view = plugin_view(container, spec ? &*spec : nullptr);
  // The limits may have changed since.
  if (!spec) return view;
  const auto limits = plugin_view(container.resources);
  auto& resources = *view.mutable_linux()->mutable_resources();
  if (limits.hugepage_limits_size() > 0) resources.clear_hugepage_limits();
  resources.MergeFrom(limits);
  return view;
}

nri_api::PodSandbox Plugins::pod_of(const ContainerRecord& container) const {
  const auto pod = needs_.registry->sandbox(container.sandbox_id);
  if (pod) return plugin_view(*pod);
  nri_api::PodSandbox gone;
  gone.set_id(container.sandbox_id);
  return gone;
}

nri::NodeState Plugins::state(const nri::UnderWay& under_way) const {
  nri::NodeState state;
  for (const auto& pod : needs_.registry->sandboxes()) {
    const bool there = pod->state == SandboxState::kReady || pod->state == SandboxState::kRestoring ||
                       under_way.making.contains(pod->id);
    if (there && !under_way.going.contains(pod->id)) state.pods.push_back(plugin_view(*pod));
  }
  for (const auto& container : needs_.registry->containers()) {
    const bool lives = container->phase == ContainerPhase::kCreated || container->phase == ContainerPhase::kStarting ||
                       container->phase == ContainerPhase::kRunning;
    const bool there = lives || under_way.making.contains(container->id);
    if (there && !under_way.going.contains(container->id)) state.containers.push_back(view(*container));
  }
  return state;
}

void Plugins::tell(nri_api::Event event, const ContainerRecord& container) {
  if (!wanted(event)) return;
  const auto view_now = view(container);
  nri_->tell(event, pod_of(container), &view_now);
}

Result<> Plugins::run_pod(Operation& operation, const Passage& passage, const SandboxRecord& pod) {
  if (!wanted(nri_api::RUN_POD_SANDBOX)) return {};
  const Stage stage(operation, stage_name(nri_api::RUN_POD_SANDBOX), pod.id);
  return nri_->ask(passage, nri_api::RUN_POD_SANDBOX, plugin_view(pod), nullptr);
}

void Plugins::undo_pod(const SandboxRecord& pod) {
  const auto view_now = plugin_view(pod);
  for (const auto event : {nri_api::STOP_POD_SANDBOX, nri_api::REMOVE_POD_SANDBOX}) {
    if (wanted(event)) nri_->tell(event, view_now, nullptr);
  }
}

Result<> Plugins::update_pod(Operation& operation, const SandboxRecord& pod,
                             const pb::LinuxContainerResources& overhead,
                             const pb::LinuxContainerResources& resources) {
  if (!wanted(nri_api::UPDATE_POD_SANDBOX)) return {};
  const Stage stage(operation, stage_name(nri_api::UPDATE_POD_SANDBOX), pod.id);
  return nri_->update_pod(plugin_view(pod), plugin_view(overhead), plugin_view(resources));
}

void Plugins::pod_updated(const SandboxRecord& pod) {
  if (wanted(nri_api::POST_UPDATE_POD_SANDBOX)) {
    nri_->tell(nri_api::POST_UPDATE_POD_SANDBOX, plugin_view(pod), nullptr);
  }
}

void Plugins::stop_pod(Operation& operation, const SandboxRecord& pod) {
  if (!wanted(nri_api::STOP_POD_SANDBOX)) return;
  const Stage stage(operation, stage_name(nri_api::STOP_POD_SANDBOX), pod.id);
  nri_->tell(nri_api::STOP_POD_SANDBOX, plugin_view(pod), nullptr);
}

void Plugins::remove_pod(Operation& operation, const SandboxRecord& pod) {
  if (!wanted(nri_api::REMOVE_POD_SANDBOX)) return;
  const Stage stage(operation, stage_name(nri_api::REMOVE_POD_SANDBOX), pod.id);
  nri_->tell(nri_api::REMOVE_POD_SANDBOX, plugin_view(pod), nullptr);
}

Result<> Plugins::add_cdi_devices(const nri::Created& made, const ContainerRecord& container, spec::Spec& spec) const {
  if (made.adjust.cdi_devices().empty()) return {};
  const auto blame = [&](const std::string& name) {
    return nri::plugin_field(made.owners, container.id, nri_api::CdiDevices, name);
  };
  BERTH_ASSIGN(const auto requested, cdi::requested_devices(container.config), "request");
  std::set<std::string, std::less<>> seen(requested.begin(), requested.end());
  std::vector<std::string> names;
  for (const auto& device : made.adjust.cdi_devices()) {
    const std::string& name = device.name();
    BERTH_TRY(cdi::parse_name(name), blame(name));
    if (!seen.insert(name).second) continue;
    if (seen.size() > cdi::kMaxRequested) return fail(Code::kInvalid, blame(name) + ": more than 4096 CDI devices");
    names.push_back(name);
  }
  BERTH_ASSIGN(const auto chosen, cdi::find_devices(needs_.cdi_dirs, names, requested, blame), "CDI");
  return cdi::apply_edits(chosen, machine().shared_mounts, spec);
}

Result<> Plugins::check_cgroups_path(const nri::Created& made, const SandboxRecord& pod, const std::string& container,
                                     const std::string& path) const {
  if (pod.systemd_cgroups && !made.adjust.linux().cgroups_path().empty()) {
    return fail(Code::kUnsupported, nri::plugin_field(made.owners, container, nri_api::CgroupsPath) + ": " + path +
                                        ": where systemd makes the cgroups, each container has its scope");
  }
  if (made.adjust.linux().cgroups_path().empty() || path.starts_with(pod.cgroup_parent + "/")) return {};
  // What is made above a container's cgroup is given back with the pod's, or nobody would.
  const std::string above = path.substr(0, path.rfind('/'));
  if (above.empty() || needs_.cgroup_exists(above)) return {};
  return fail(Code::kUnsupported, nri::plugin_field(made.owners, container, nri_api::CgroupsPath) + ": " + path +
                                      " is not below the pod's " + pod.cgroup_parent + " and there is no " + above);
}

Result<> Plugins::create(Operation& operation, const Passage& passage, const SandboxRecord& pod,
                         ContainerRecord& container, spec::Spec& spec) {
  if (!nri_ || !nri_->create_wanted(passage)) return {};
  const Stage stage(operation, stage_name(nri_api::CREATE_CONTAINER), container.id);
  BERTH_ASSIGN(auto made, nri_->create_container(passage, plugin_view(pod), plugin_view(container, &spec)), "NRI");
  BERTH_TRY(add_cdi_devices(made, container, spec), "change");
  BERTH_TRY(nri::apply(made.adjust, made.owners, container.id, machine(), spec), "change");
  BERTH_TRY(spec::validate(spec), "what the NRI plugins made of it");
  BERTH_TRY(check_cgroups_path(made, pod, container.id, spec.linux->cgroups_path), "change");
  if (!pod.systemd_cgroups) container.cgroups_path = spec.linux->cgroups_path;
  merge_limits(made.adjust.linux().resources(), container.resources);
  nri_->carry_out(made.updates, made.evictions);
  return {};
}

void Plugins::undo_create(const SandboxRecord& pod, const ContainerRecord& container) {
  const auto pod_view = plugin_view(pod);
  const auto view_now = plugin_view(container, nullptr);
  if (wanted(nri_api::STOP_CONTAINER)) nri_->carry_out(nri_->stop_container(pod_view, view_now), {});
  if (wanted(nri_api::REMOVE_CONTAINER)) nri_->tell(nri_api::REMOVE_CONTAINER, pod_view, &view_now);
}

Result<> Plugins::start_container(Operation& operation, const ContainerRecord& container) {
  if (!wanted(nri_api::START_CONTAINER)) return {};
  const Stage stage(operation, stage_name(nri_api::START_CONTAINER), container.id);
  const auto view_now = view(container);
  return nri_->ask(nri_api::START_CONTAINER, pod_of(container), &view_now);
}

Result<bool> Plugins::update_container(Operation& operation, const ContainerRecord& container,
                                       nri_api::LinuxResources& limits) {
  if (!wanted(nri_api::UPDATE_CONTAINER)) return false;
  const Stage stage(operation, stage_name(nri_api::UPDATE_CONTAINER), container.id);
  std::vector<nri::Eviction> evictions;
  BERTH_ASSIGN(const auto others, nri_->update_container(pod_of(container), view(container), limits, evictions), "NRI");
  nri_->carry_out(others, evictions);
  return true;
}

void Plugins::ended(const std::string& id) {
  if (!wanted(nri_api::STOP_CONTAINER)) return;
  needs_.workers->post([this, id] { tell_ended(id); });
}

void Plugins::tell_ended(const std::string& id) {
  if (!wanted(nri_api::STOP_CONTAINER)) return;
  const auto container = needs_.registry->container(id);
  if (!container || container->phase == ContainerPhase::kCreating || container->phase == ContainerPhase::kRemoving) {
    return;
  }
  {
    MutexLock lock(mutex_);
    const auto done = [this, &id]() BERTH_REQUIRES(mutex_) {
      const auto found = ended_.find(id);
      return found == ended_.end() || found->second;
    };
    told_.wait(lock, done);  // bounded: whoever tells is bounded by the plugins' timeouts
    // Its record goes before forget(): an entry made after that would never go.
    if (!needs_.registry->container(id) || !ended_.emplace(id, false).second) return;
  }
  const auto updates = nri_->stop_container(pod_of(*container), view(*container));
  {
    MutexLock lock(mutex_);
    if (const auto entry = ended_.find(id); entry != ended_.end()) entry->second = true;
    told_.notify_all();
  }
  // It has been told: who waits for that need not wait for these, and they may wait for his pod.
  nri_->carry_out(updates, {});
}

void Plugins::remove_container(Operation& operation, const ContainerRecord& container) {
  if (!wanted(nri_api::STOP_CONTAINER) && !wanted(nri_api::REMOVE_CONTAINER)) return;
  if (container.phase == ContainerPhase::kCreating || container.phase == ContainerPhase::kRemoving) return;
  const Stage stage(operation, stage_name(nri_api::REMOVE_CONTAINER), container.id);
  tell_ended(container.id);
  tell(nri_api::REMOVE_CONTAINER, container);
}

void Plugins::forget(const std::string& id) {
  if (!nri_) return;
  MutexLock lock(mutex_);
  ended_.erase(id);
}

}  // namespace berth::cri
