#pragma once
#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>

#include "base/rollback.h"
#include "base/thread_annotations.h"
#include "cri/detached.h"
#include "cri/handler_features.h"
#include "cri/handlers.h"
#include "cri/host_facts.h"
#include "cri/operation.h"
#include "cri/plugins.h"
#include "cri/pod.h"
#include "cri/pod_checkpoint.h"
#include "cri/pod_stats.h"
#include "cri/registry.h"
#include "cri/service.h"
#include "cri/spec_builder.h"
#include "cri/stats_cache.h"
#include "cri/workers.h"
#include "network/network.h"
#include "os/cgroup_control.h"
#include "ttrpc/reactor.h"

namespace berth::cri {

/// The image of a request: by reference or id, as the kubelet resolved it, else by what PullImage answered. Errors:
/// kNotFound.
[[nodiscard]] Result<image::ImageInfo> find_image(const image::Store& store, const pb::ImageSpec& spec);
/// The folder of a container's writable layer; empty: the mount has none.
[[nodiscard]] std::string upper_of(const image::RootfsMount& rootfs);
/// The container to which a root file system or a volume of the image store belongs.
[[nodiscard]] std::string owner_of_rootfs(const std::string& id);

/// The service: one file per RPC or pair of them (sandbox_run.cc, container_create.cc, ...), recovery.cc and
/// pod_events.cc.
///
/// Order of locks: a pod's OperationLock, then registry and database, then everything small. The reactor's thread takes
/// small ones only.
class ServiceImpl final : public Service {
 public:
  explicit ServiceImpl(ServiceOptions options) : options_(std::move(options)) {}
  ~ServiceImpl() override;
  ServiceImpl(const ServiceImpl&) = delete;
  ServiceImpl& operator=(const ServiceImpl&) = delete;
  ServiceImpl(ServiceImpl&&) = delete;
  ServiceImpl& operator=(ServiceImpl&&) = delete;

  /// Once, before anything else.
  Result<> start();

  Result<pb::VersionResponse> version(const Call&, const pb::VersionRequest&) override;
  Result<pb::StatusResponse> status(const Call&, const pb::StatusRequest&) override;
  Result<pb::RuntimeConfigResponse> runtime_config(const Call&, const pb::RuntimeConfigRequest&) override;
  Result<pb::UpdateRuntimeConfigResponse> update_runtime_config(const Call&,
                                                                const pb::UpdateRuntimeConfigRequest&) override;
  Result<pb::RunPodSandboxResponse> run_pod_sandbox(const Call&, const pb::RunPodSandboxRequest&) override;
  Result<pb::StopPodSandboxResponse> stop_pod_sandbox(const Call&, const pb::StopPodSandboxRequest&) override;
  Result<pb::RemovePodSandboxResponse> remove_pod_sandbox(const Call&, const pb::RemovePodSandboxRequest&) override;
  Result<pb::PodSandboxStatusResponse> pod_sandbox_status(const Call&, const pb::PodSandboxStatusRequest&) override;
  Result<pb::UpdatePodSandboxResourcesResponse> update_pod_sandbox_resources(
      const Call&, const pb::UpdatePodSandboxResourcesRequest&) override;
  Result<pb::CreateContainerResponse> create_container(const Call&, const pb::CreateContainerRequest&) override;
  Result<pb::StartContainerResponse> start_container(const Call&, const pb::StartContainerRequest&) override;
  Result<pb::StopContainerResponse> stop_container(const Call&, const pb::StopContainerRequest&) override;
  Result<pb::RemoveContainerResponse> remove_container(const Call&, const pb::RemoveContainerRequest&) override;
  Result<pb::ContainerStatusResponse> container_status(const Call&, const pb::ContainerStatusRequest&) override;
  Result<pb::UpdateContainerResourcesResponse> update_container_resources(
      const Call&, const pb::UpdateContainerResourcesRequest&) override;
  Result<pb::ReopenContainerLogResponse> reopen_container_log(const Call&,
                                                              const pb::ReopenContainerLogRequest&) override;
  Result<pb::ExecSyncResponse> exec_sync(const Call&, const pb::ExecSyncRequest&) override;
  Result<pb::ExecResponse> exec(const Call&, const pb::ExecRequest&) override;
  Result<pb::AttachResponse> attach(const Call&, const pb::AttachRequest&) override;
  Result<pb::PortForwardResponse> port_forward(const Call&, const pb::PortForwardRequest&) override;
  Result<pb::ContainerStatsResponse> container_stats(const Call&, const pb::ContainerStatsRequest&) override;
  Result<pb::PodSandboxStatsResponse> pod_sandbox_stats(const Call&, const pb::PodSandboxStatsRequest&) override;
  Result<pb::CheckpointContainerResponse> checkpoint_container(const Call&,
                                                               const pb::CheckpointContainerRequest&) override;
  Result<pb::CheckpointPodResponse> checkpoint_pod(const Call&, const pb::CheckpointPodRequest&) override;
  Result<pb::RestorePodResponse> restore_pod(const Call&, const pb::RestorePodRequest&) override;
  Result<pb::ListMetricDescriptorsResponse> list_metric_descriptors(const Call&,
                                                                    const pb::ListMetricDescriptorsRequest&) override;
  Items pod_sandbox_items(const pb::PodSandboxFilter& filter) override;
  Items container_items(const pb::ContainerFilter& filter) override;
  Items container_stats_items(const pb::ContainerStatsFilter& filter) override;
  Items pod_sandbox_stats_items(const pb::PodSandboxStatsFilter& filter) override;
  Items pod_sandbox_metrics_items() override;
  Items image_items(const pb::ImageFilter& filter) override;
  std::uint64_t follow_events(EventSink sink) override { return registry_->follow(std::move(sink)); }
  void unfollow_events(std::uint64_t follower) override { registry_->unfollow(follower); }
  Result<pb::PullImageResponse> pull_image(const Call&, const pb::PullImageRequest&) override;
  Result<pb::ImageStatusResponse> image_status(const Call&, const pb::ImageStatusRequest&) override;
  Result<pb::RemoveImageResponse> remove_image(const Call&, const pb::RemoveImageRequest&) override;
  Result<pb::ImageFsInfoResponse> image_fs_info(const Call&, const pb::ImageFsInfoRequest&) override;
  Result<std::vector<Finding>> fsck(const Call& call, bool repair) override;
  std::vector<Probe> doctor() override;
  std::vector<Timeline> timelines(std::string_view object) override { return timelines_.find(object); }
  void set_handlers(HandlerTable table) override;

 private:
  struct Making;        // a sandbox that is being made (sandbox_run.cc)
  struct Checkpointed;  // a checkpoint that is being restored (sandbox_restore.cc)
  /// Where a container comes from that is not made anew.
  struct RestoreSource {
    const Checkpointed& checkpoint;
    std::size_t number;  ///< of the container in it
    SteadyTime deadline;
  };

  // ---- service.cc ----
  /// Has the kernel know the profile of containers for which nobody names another.
  void load_apparmor();
  [[nodiscard]] std::shared_ptr<Pod> find_pod(std::string_view id) const BERTH_EXCLUDES(pods_mutex_);
  std::shared_ptr<Pod> make_pod(const std::string& id) BERTH_EXCLUDES(pods_mutex_);
  void drop_pod(const std::string& id) BERTH_EXCLUDES(pods_mutex_);
  /// kUnavailable when the sandbox's shim is not there.
  [[nodiscard]] Result<std::shared_ptr<ShimLink>> link_of(const std::string& sandbox_id) const;
  /// A visible sandbox or container; kNotFound, kInvalid as Registry::find_*.
  [[nodiscard]] Result<SandboxPtr> shown_sandbox(std::string_view id) const;
  [[nodiscard]] Result<ContainerPtr> shown_container(std::string_view id) const;
  /// kPrecondition: it does not run.
  [[nodiscard]] Result<ContainerPtr> running_container(const std::string& id) const;
  /// A URL of berth-stream, which is started if need be.
  Result<std::string> session_url(const Call& call, const ::berth::stream::v1::PrepareRequest& session);
  [[nodiscard]] std::string dir_of(const std::string& sandbox_id) const;
  [[nodiscard]] std::string dir_of(const ContainerRecord& record) const;

  void store_timeline(const std::string& id, const std::string& blob);
  void forget_timeline(const std::string& id);
  /// Notes what happened to a container without anybody's asking.
  void note_event(const std::string& sandbox_id, const std::string& container_id, std::string what, std::string error);

  [[nodiscard]] bool ending() const { return ending_.load(); }

  // ---- sandbox_run.cc ----
  Result<> check_sandbox(const pb::RunPodSandboxRequest& request) const;
  Result<> check_driver(const Handler& handler) const;
  Result<> check_features(const Handler& handler, const pb::PodSandboxConfig& config) const;
  /// `restored_from` not empty: it stays in the state kRestoring.
  Result<std::string> make_sandbox(Operation& operation, const pb::RunPodSandboxRequest& request,
                                   const std::string& restored_from = {});
  Result<> make_recorded(Operation& operation, const pb::RunPodSandboxRequest& request, Making& making);
  Result<> record_sandbox(SandboxRecord& record) BERTH_EXCLUDES(cgroup_mutex_);
  static network::PodNetwork pod_network(const SandboxRecord& record, int netns_fd);
  static Result<> write_new_file(const std::string& path, std::string_view text,
                                 const std::optional<PodIds>& ids = std::nullopt);
  static Result<> make_user_namespace(Operation& operation, Making& making);
  Result<> start_pod_shim(Operation& operation, Making& making, int netns_fd);
  Result<> make_pod_side(Operation& operation, Making& making);
  Result<> write_pod_files(const SandboxRecord& record, const Handler& handler, const std::string& dir);
  Result<> finish_sandbox(Operation& operation, Making& making);

  // ---- sandbox_stop.cc ----
  Result<> stop_sandbox(Operation& operation, const std::string& id);
  /// Whether all of them have ended, which the shim has told.
  bool stop_all_containers(Operation& operation, const SandboxRecord& record, Pod* pod);
  Result<> release_network(Operation& operation, const SandboxRecord& record, int netns_fd);
  /// `ask`: first by a call, which a shim that hangs would not answer.
  Result<> end_shim(Operation& operation, const SandboxRecord& record, Pod& pod, bool ask);
  [[nodiscard]] bool tasks_are_stuck(const std::string& sandbox_id) const;
  Result<> release_cgroups(const SandboxRecord& record) BERTH_EXCLUDES(cgroup_mutex_);
  void retry_networks();

  // ---- sandbox_update.cc ----
  [[nodiscard]] Result<> check_pod_cgroup(const SandboxRecord& record) const;
  Result<> update_pod_locked(Operation& operation, const std::string& id,
                             const pb::UpdatePodSandboxResourcesRequest& request);

  // ---- systemd_units.cc ----
  /// Ends the scope or slice whose cgroup is at `path`, and removes that where systemd does not. Idempotent.
  Result<> end_unit(const std::string& path);
  /// False: it is not for us to end it, or something is in it.
  Result<bool> end_empty_slice(const std::string& path);
  /// A pod's slice or scope with all that is in it.
  Result<> clear_units(const std::string& path);
  /// Lets systemd forget the scopes at those of `paths` that are not `left`. A failure is logged.
  void end_cleared_units(bool systemd, const std::vector<std::string>& paths, const std::vector<std::string>& left);
  /// Limits in the pod's cgroup, which is made if it is not there.
  Result<> limit_pod(const SandboxRecord& record, const os::CgroupPlan& plan);

  // ---- detached.cc ----
  /// Whether the pod's shim, which was killed, is itself in state D; then it is reaped when it has ended.
  bool leave_shim(const SandboxRecord& record, const Pod& pod) BERTH_EXCLUDES(detached_mutex_);
  Result<> release_pod_cgroups(Operation& operation, const SandboxRecord& record)
      BERTH_EXCLUDES(cgroup_mutex_, detached_mutex_);
  Result<> load_detached() BERTH_EXCLUDES(detached_mutex_);
  [[nodiscard]] std::vector<Detached> detached() const BERTH_EXCLUDES(detached_mutex_);
  void retry_detached() BERTH_EXCLUDES(detached_mutex_);
  Result<> release_detached(const Detached& left) BERTH_EXCLUDES(cgroup_mutex_, detached_mutex_);
  [[nodiscard]] std::string describe(const Detached& left) const;

  // ---- sandbox_remove.cc, container_remove.cc ----
  Result<> remove_sandbox(Operation& operation, const std::string& id);
  /// The pod's lock is held. `forced`: kill it if it runs.
  Result<> remove_container_locked(Operation& operation, const std::string& id);

  // ---- container_create.cc ----
  Result<std::string> make_container(Operation& operation, const pb::CreateContainerRequest& request,
                                     const std::string& sandbox_id, const RestoreSource* source = nullptr);
  Result<> fill_container(Operation& operation, const SandboxRecord& sandbox, const Plugins::Passage& passage,
                          ContainerRecord& record, Rollback& undo, const RestoreSource* source);
  Result<> create_in_shim(Operation& operation, ContainerRecord& record, const image::RootfsMount& rootfs,
                          const ShimStdio& stdio, Rollback& undo, const RestoreSource* source);
  Result<> extend_spec(Operation& operation, const SandboxRecord& sandbox, const Plugins::Passage& passage,
                       ContainerRecord& record, spec::Spec& spec);
  Result<SpecOutput> container_spec(Operation& operation, const SandboxRecord& sandbox, ContainerRecord& record,
                                    const image::ImageInfo& image, ImageVolumes volumes);
  Result<ShimStdio> make_stdio(Operation& operation, const SandboxRecord& sandbox, ContainerRecord& record);
  static Result<int> stop_signal(const pb::ContainerConfig& config, const spec::ImageConfig& image);

  // ---- container_volumes.cc ----
  static Result<> look_at_volumes(Operation& operation, const pb::ContainerConfig& config);
  Result<ImageVolumes> prepare_volumes(Operation& operation, const ContainerRecord& record, Rollback& undo);
  /// Idempotent.
  Result<> remove_volumes(const ContainerRecord& record);

  // ---- container_stop.cc ----
  /// Kills everything in it and waits until the end is recorded. Success when nothing runs.
  Result<> kill_container(Operation& operation, const ContainerRecord& record);
  Result<> stop_gently(Operation& operation, const ContainerRecord& record, std::int64_t grace_s);
  /// Sends the stop signal, and once more if the container's program could not take it at that time.
  Result<> signal_and_watch(const ContainerRecord& record, SteadyTime deadline) BERTH_EXCLUDES(stop_mutex_);
  /// False: not delivered, which was logged; the next stop sends it again.
  bool send_stop_signal(ShimLink& link, const ContainerRecord& record) BERTH_EXCLUDES(stop_mutex_);
  /// Waits until nothing of the container runs and that is recorded. False at the deadline or when the daemon ends.
  bool wait_until_over(const std::string& id, SteadyTime deadline);

  // ---- container_start.cc ----
  Result<> start_locked(Operation& operation, const std::string& id);
  Result<> start_failed(ShimLink& link, const std::string& id, Error error);

  // ---- container_update.cc ----
  Result<> update_locked(Operation& operation, const std::string& id, const pb::LinuxContainerResources& asked);

  // ---- container_checkpoint.cc, sandbox_checkpoint.cc ----
  [[nodiscard]] std::string checkpoint_folder() const { return options_.root_dir + "/checkpoints"; }
  [[nodiscard]] std::string checkpoint_notes() const { return options_.root_dir + "/checkpoint-notes"; }
  static SteadyTime checkpoint_deadline(const Call& call, std::int64_t timeout_s);
  [[nodiscard]] Result<> check_checkpointable(const SandboxRecord& sandbox) const;
  /// All at one moment: each of `containers` into the folder of its number. They go on when it returns.
  Result<> write_checkpoint(Operation& operation, const SandboxRecord& sandbox,
                            const std::vector<ContainerPtr>& containers, const std::vector<std::string>& folders,
                            const std::string& shm_file, SteadyTime deadline);
  [[nodiscard]] Result<> write_dumps(const SandboxRecord& sandbox, const ContainerRecord& record,
                                     const std::string& folder) const;
  static Result<> copy_log(const std::string& path, const std::string& to);
  Result<> checkpoint_locked(Operation& operation, const std::string& id, const std::string& location,
                             SteadyTime deadline);
  Result<> checkpoint_pod_locked(Operation& operation, const std::string& id, const pb::CheckpointPodRequest& request,
                                 SteadyTime deadline);
  Result<> write_pod_dump(const SandboxRecord& sandbox, const std::vector<ContainerPtr>& containers,
                          const std::string& folder) const;

  // ---- sandbox_restore.cc ----
  static Result<Checkpointed> open_checkpoint(const std::string& path);
  [[nodiscard]] Result<std::vector<pb::ContainerConfig>> match_checkpoint(const pb::RestorePodRequest& request,
                                                                          const PodCheckpoint& saved) const;
  [[nodiscard]] Result<> check_restore(const pb::RestorePodRequest& request) const;
  /// The id of what an earlier call made; empty: there is none. kExists another pod of that name is there.
  [[nodiscard]] Result<std::string> restored_before(const pb::RestorePodRequest& request) const;
  Result<std::string> restore_new(Operation& operation, const pb::RestorePodRequest& request, SteadyTime deadline);
  Result<> restore_containers(Operation& operation, const std::string& id, const Checkpointed& checkpoint,
                              const std::vector<pb::ContainerConfig>& configs, SteadyTime deadline);
  static Result<> restore_layer(Operation& operation, const RestoreSource& source, const image::RootfsMount& rootfs);
  static Result<pid_t> restore_in_shim(ShimLink& link, const std::string& id, const std::string& dir,
                                       const image::RootfsMount& rootfs, const ShimStdio& stdio,
                                       const RestoreSource& source);
  Result<> show_restored(const std::string& id, const Pod& pod);

  // ---- plugin_calls.cc ----
  void open_plugins();
  /// New limits that a plugin wants. Without the pod's turn: the plugin may be in the midst of an event of this very
  /// pod.
  Result<> update_for_plugin(const std::string& id, const nri_api::LinuxResources& limits);
  /// Starts the end of a container; does not wait.
  Result<> evict_for_plugin(const nri::Eviction& eviction);

  // ---- pod_events.cc ----
  /// Takes over what the shim knows of a container. Answers the record in force.
  Result<ContainerPtr> take_over(const ::berth::shim::v1::ContainerInfo& info);
  void follow_events(const std::shared_ptr<Pod>& pod, const std::shared_ptr<ShimLink>& link, std::uint64_t seq);
  void handle_events(const std::shared_ptr<Pod>& pod, const std::shared_ptr<ShimLink>& link,
                     const ::berth::shim::v1::WaitEventResponse& events);
  void pod_is_over(const std::string& sandbox_id, const std::string& why);
  void handle_lost_shim(const std::shared_ptr<Pod>& pod, const Error& error);
  void shim_has_died(Pod& pod, const std::string& how);
  void containers_died(const std::string& sandbox_id, const std::string& reason, const std::string& message,
                       std::int32_t exit_code);

  // ---- recovery.cc ----
  Result<> recover();
  void recover_sandbox(const SandboxPtr& record, bool rebooted);
  Result<> adopt(const SandboxRecord& record);
  Result<> undo_sandbox(const SandboxRecord& record);
  void undo_container(const ContainerRecord& record);
  void finish_half_done();

  // ---- audit.cc ----
  struct Unowned;
  /// What no record owns and nobody else can. A thing that is just being removed may be among it: look twice.
  std::vector<Unowned> find_unowned();
  void find_unowned_links(std::vector<Unowned>& found);
  void find_unowned_cgroups(std::vector<Unowned>& found);
  void remove_unowned();

  // ---- pod_stats.cc ----
  void sample_pod(const SandboxRecord& record);
  void sample_pods();
  [[nodiscard]] pb::PodSandboxStats pod_figures(const SandboxRecord& record) const;
  [[nodiscard]] std::vector<ContainerPtr> running_in(const SandboxRecord& record) const;
  // ---- stats_collect.cc ----
  void collect_stats();
  void sample_now(const ContainerRecord& record);
  void measure_disks();
  void stats_loop();
  void drop_unused_network();

  const ServiceOptions options_;
  Handlers handlers_{options_.handlers};
  FeatureTable features_;
  os::CgroupLayout cgroups_;
  std::string parent_path_;  // of options_.cgroup_parent
  HostFacts host_;
  std::unique_ptr<StateDb> db_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<ttrpc::Reactor> reactor_;
  std::unique_ptr<StreamServer> stream_server_;
  Workers workers_;
  Timelines timelines_{{.store = [this](const auto& id, const auto& blob) { store_timeline(id, blob); },
                        .forget = [this](const auto& id) { forget_timeline(id); }}};
  Operations operations_{workers_, &timelines_};
  Plugins plugins_;
  StatsCache stats_;
  PodStatsCache pod_stats_;

  mutable Mutex pods_mutex_;
  std::map<std::string, std::shared_ptr<Pod>, std::less<>> pods_ BERTH_GUARDED_BY(pods_mutex_);

  // Between looking whether a cgroup is somebody else's and acting on it.
  Mutex cgroup_mutex_;
  // Pods that hold no cgroup any more, though their records do not say so yet.
  std::set<std::string, std::less<>> cgroups_released_ BERTH_GUARDED_BY(cgroup_mutex_);
  mutable Mutex detached_mutex_;
  std::vector<UniqueFd> dying_shims_ BERTH_GUARDED_BY(detached_mutex_);  // pidfds of children that SIGKILL is to end
  std::vector<Detached> detached_ BERTH_GUARDED_BY(detached_mutex_);
  // Sandboxes whose network could not be given back when it was last tried.
  Mutex network_mutex_;
  std::set<std::string, std::less<>> network_failed_ BERTH_GUARDED_BY(network_mutex_);
  // Stop signals that were sent, so that a second StopContainer does not send another.
  Mutex stop_mutex_;
  std::set<std::string, std::less<>> stop_sent_ BERTH_GUARDED_BY(stop_mutex_);

  std::thread stats_thread_;
  Mutex stats_mutex_;
  std::condition_variable_any stats_wake_;
  bool closing_ BERTH_GUARDED_BY(stats_mutex_) = false;
  std::atomic<bool> measuring_{false};
  std::atomic<bool> network_dropped_{false};  // since the last pod went
  std::atomic<bool> ending_{false};           // long waits of operations end
};

}  // namespace berth::cri
