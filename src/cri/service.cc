#include "cri/service.h"

#include "base/log.h"
#include "cri/apparmor_default.h"
#include "cri/pod_files.h"
#include "cri/service_impl.h"
#include "image/store.h"
#include "network/network.h"
#include "os/file.h"

namespace berth::cri {

namespace {

constexpr const char* kCgroupRoot = "/sys/fs/cgroup";

}  // namespace

Result<std::unique_ptr<Service>> Service::open(ServiceOptions options) {
  if (options.images == nullptr || options.network == nullptr)
    return fail(Code::kInternal, "service without its parts");
  auto service = std::make_unique<ServiceImpl>(std::move(options));
  BERTH_TRY(service->start(), "state");
  return service;
}

Result<> ServiceImpl::start() {
  BERTH_TRY(os::make_dirs(options_.root_dir, 0711), "root folder");
  BERTH_TRY(os::make_dirs(options_.state_dir + "/pods", 0711), "state folder");
  BERTH_TRY(os::make_dirs(options_.root_dir + "/seccomp", 0700), "seccomp cache");
  BERTH_ASSIGN(cgroups_, os::find_cgroups(kCgroupRoot), "cgroups");
  BERTH_ASSIGN(parent_path_, parent_cgroup(options_.cgroup_driver, options_.cgroup_parent), "cgroup.parent");
  BERTH_ASSIGN(host_, probe_host(cgroups_), "look at the machine");
  load_apparmor();
  features_.set_machine(probe_machine(options_.shim_path, options_.images->usage().mountpoint));
  features_.learn(options_.handlers);
  std::string rescued;
  BERTH_ASSIGN(db_, StateDb::open(options_.root_dir + "/state.db", &rescued), "open");
  if (!rescued.empty()) log_error("the state database was damaged and is begun anew", {{"kept", rescued}});
  registry_ = std::make_unique<Registry>(*db_);
  BERTH_ASSIGN(reactor_, ttrpc::Reactor::create(), "shim connections");
  stream_server_ = std::make_unique<StreamServer>(*reactor_, options_.state_dir + "/stream", options_.stream);
  open_plugins();  // before the events of pods that are taken over, which come on other threads
  BERTH_TRY(recover(), "take over what runs");
  stream_server_->take_over();
  plugins_.start();
  stats_thread_ = std::thread([this] { stats_loop(); });
  return {};
}

void ServiceImpl::load_apparmor() {
  if (!host_.apparmor) return;
  if (auto loaded = load_default_apparmor_profile(); !loaded) {
    host_.apparmor_problem = loaded.error().text();
    log_warn("the AppArmor profile of containers is not loaded: those that name none are unconfined",
             {{"profile", kDefaultAppArmorProfile}, {"err", host_.apparmor_problem}});
    return;
  }
  host_.apparmor_default = kDefaultAppArmorProfile;
}

ServiceImpl::~ServiceImpl() {
  ending_ = true;
  {
    MutexLock lock(stats_mutex_);
    closing_ = true;
    stats_wake_.notify_all();
  }
  if (stats_thread_.joinable()) stats_thread_.join();
  plugins_.stop();
  // Pods outlive us: only the connections end. What waits for a shim's answer is told so and comes to its end.
  std::map<std::string, std::shared_ptr<Pod>, std::less<>> pods;
  {
    MutexLock lock(pods_mutex_);
    pods = pods_;
  }
  for (const auto& [id, pod] : pods) {
    pod->expect_end();
    if (auto link = pod->link()) (*link)->close();
  }
  if (registry_ && registry_->sandboxes().empty()) drop_unused_network();
  if (reactor_) reactor_->drain();
  workers_.close();
  if (reactor_) reactor_->drain();
}

void ServiceImpl::set_handlers(HandlerTable table) {
  // First: from the moment that a pod can name it, it is known what a handler can.
  features_.learn(table);
  handlers_.replace(std::move(table));
}

std::shared_ptr<Pod> ServiceImpl::find_pod(std::string_view id) const {
  MutexLock lock(pods_mutex_);
  const auto found = pods_.find(id);
  return found == pods_.end() ? nullptr : found->second;
}

std::shared_ptr<Pod> ServiceImpl::make_pod(const std::string& id) {
  MutexLock lock(pods_mutex_);
  auto& pod = pods_[id];
  if (!pod) pod = std::make_shared<Pod>(id);
  return pod;
}

void ServiceImpl::drop_pod(const std::string& id) {
  MutexLock lock(pods_mutex_);
  pods_.erase(id);
}

void ServiceImpl::store_timeline(const std::string& id, const std::string& blob) {
  auto stored = db_->put_timeline(id, blob);
  if (!stored) log_warn("a timeline is not stored", {{"sandbox", id}, {"err", stored.error().text()}});
}

void ServiceImpl::forget_timeline(const std::string& id) {
  auto erased = db_->erase_timeline(id);
  if (!erased) log_warn("a timeline is not erased", {{"sandbox", id}, {"err", erased.error().text()}});
}

void ServiceImpl::note_event(const std::string& sandbox_id, const std::string& container_id, std::string what,
                             std::string error) {
  timelines_.note(
      sandbox_id, container_id,
      {{.at_ns = wall_now_ns(), .took_us = 0, .operation = std::move(what), .step = {}, .error = std::move(error)}});
}

Result<std::shared_ptr<ShimLink>> ServiceImpl::link_of(const std::string& sandbox_id) const {
  const auto pod = find_pod(sandbox_id);
  if (!pod) return fail(Code::kUnavailable, "the shim of pod " + sandbox_id + " is not running");
  return pod->link();
}

Result<SandboxPtr> ServiceImpl::shown_sandbox(std::string_view id) const {
  auto record = registry_->find_sandbox(id);
  if (record && !visible(**record)) return fail(Code::kNotFound, "no sandbox " + std::string(id));
  return record;
}

Result<ContainerPtr> ServiceImpl::shown_container(std::string_view id) const {
  auto record = registry_->find_container(id);
  if (record && !visible(**record)) return fail(Code::kNotFound, "no container " + std::string(id));
  return record;
}

std::string ServiceImpl::dir_of(const std::string& sandbox_id) const {
  return pod_dir(options_.state_dir, sandbox_id);
}

std::string ServiceImpl::dir_of(const ContainerRecord& record) const {
  return container_dir(options_.state_dir, record.sandbox_id, record.id);
}

}  // namespace berth::cri
