#pragma once
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "cri/cgroup_names.h"
#include "cri/events.h"
#include "cri/handlers.h"
#include "cri/items.h"
#include "cri/probe.h"
#include "cri/runtime/v1/api.pb.h"
#include "cri/stream_server.h"
#include "cri/timeline.h"
#include "nri/options.h"

namespace berth::image {
class Store;
}
namespace berth::network {
class Network;
}

/// The CRI services as plain C++: no gRPC here (rpc/ adapts). Every body blocks and is called from a pool thread; all
/// are thread-safe. Idempotence as the CRI's comments ask for.
namespace berth::cri {

namespace pb = ::runtime::v1;

/// One running call.
struct Call {
  std::stop_token stop;                     ///< the client went away
  SteadyTime deadline = SteadyTime::max();  ///< the client's
};

/// Something of ours on the node that no record owns.
struct Finding {
  std::string kind;      ///< "shim", "folder", "root-fs", "network", "link", "cgroup"
  std::string object;    ///< a path, id or name
  bool removed = false;  ///< it was there and is not any more
  std::string error;     ///< why it could not be removed
};

struct ServiceOptions {
  std::string root_dir;                                  ///< persistent: the state database lives here
  std::string state_dir;                                 ///< runtime state: pods/<sandbox id>/...
  std::string shim_path;                                 ///< containerd-shim-berth-v2
  CgroupDriver cgroup_driver = CgroupDriver::kCgroupfs;  ///< of new pods
  std::string scope_program;                             ///< berth-scope, absolute
  std::string cgroup_parent;  ///< for pods that name none; of the driver's form: "/berth", "berth.slice"
  HandlerTable handlers{};    ///< at first; see set_handlers()
  std::uint64_t exec_output_limit = 16U << 20;
  std::uint64_t log_max_line_bytes = 16384;
  unsigned stats_period_s = 10;
  StreamOptions stream{};                 ///< how berth-stream is started
  std::vector<std::string> cdi_dirs{};    ///< where CDI files are, a later one before an earlier one; none: no CDI
  std::vector<std::string> hooks_dirs{};  ///< of OCI hooks, see hook_dirs.h
  std::optional<nri::Options> nri{};      ///< absent: no plugins
  image::Store* images = nullptr;         ///< borrowed, outlives the service
  network::Network* network = nullptr;    ///< borrowed, outlives the service
};

class Service {
 public:
  /// Opens the state database and adopts what is running: connects to each pod's shim, marks as exited what has gone,
  /// and removes what no record owns. Blocks.
  static Result<std::unique_ptr<Service>> open(ServiceOptions options);

  Service() = default;
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  Service(Service&&) = delete;
  Service& operator=(Service&&) = delete;
  virtual ~Service() = default;

  virtual Result<pb::VersionResponse> version(const Call&, const pb::VersionRequest&) = 0;
  virtual Result<pb::StatusResponse> status(const Call&, const pb::StatusRequest&) = 0;
  virtual Result<pb::RuntimeConfigResponse> runtime_config(const Call&, const pb::RuntimeConfigRequest&) = 0;
  virtual Result<pb::UpdateRuntimeConfigResponse> update_runtime_config(const Call&,
                                                                        const pb::UpdateRuntimeConfigRequest&) = 0;

  virtual Result<pb::RunPodSandboxResponse> run_pod_sandbox(const Call&, const pb::RunPodSandboxRequest&) = 0;
  virtual Result<pb::StopPodSandboxResponse> stop_pod_sandbox(const Call&, const pb::StopPodSandboxRequest&) = 0;
  virtual Result<pb::RemovePodSandboxResponse> remove_pod_sandbox(const Call&, const pb::RemovePodSandboxRequest&) = 0;
  virtual Result<pb::PodSandboxStatusResponse> pod_sandbox_status(const Call&, const pb::PodSandboxStatusRequest&) = 0;
  virtual Result<pb::UpdatePodSandboxResourcesResponse> update_pod_sandbox_resources(
      const Call&, const pb::UpdatePodSandboxResourcesRequest&) = 0;

  virtual Result<pb::CreateContainerResponse> create_container(const Call&, const pb::CreateContainerRequest&) = 0;
  virtual Result<pb::StartContainerResponse> start_container(const Call&, const pb::StartContainerRequest&) = 0;
  virtual Result<pb::StopContainerResponse> stop_container(const Call&, const pb::StopContainerRequest&) = 0;
  virtual Result<pb::RemoveContainerResponse> remove_container(const Call&, const pb::RemoveContainerRequest&) = 0;
  virtual Result<pb::ContainerStatusResponse> container_status(const Call&, const pb::ContainerStatusRequest&) = 0;
  virtual Result<pb::UpdateContainerResourcesResponse> update_container_resources(
      const Call&, const pb::UpdateContainerResourcesRequest&) = 0;
  virtual Result<pb::ReopenContainerLogResponse> reopen_container_log(const Call&,
                                                                      const pb::ReopenContainerLogRequest&) = 0;
  virtual Result<pb::ExecSyncResponse> exec_sync(const Call&, const pb::ExecSyncRequest&) = 0;
  virtual Result<pb::ExecResponse> exec(const Call&, const pb::ExecRequest&) = 0;
  virtual Result<pb::AttachResponse> attach(const Call&, const pb::AttachRequest&) = 0;
  virtual Result<pb::PortForwardResponse> port_forward(const Call&, const pb::PortForwardRequest&) = 0;
  virtual Result<pb::ContainerStatsResponse> container_stats(const Call&, const pb::ContainerStatsRequest&) = 0;
  virtual Result<pb::PodSandboxStatsResponse> pod_sandbox_stats(const Call&, const pb::PodSandboxStatsRequest&) = 0;
  virtual Result<pb::CheckpointContainerResponse> checkpoint_container(const Call&,
                                                                       const pb::CheckpointContainerRequest&) = 0;
  virtual Result<pb::CheckpointPodResponse> checkpoint_pod(const Call&, const pb::CheckpointPodRequest&) = 0;
  virtual Result<pb::RestorePodResponse> restore_pod(const Call&, const pb::RestorePodRequest&) = 0;
  virtual Result<pb::ListMetricDescriptorsResponse> list_metric_descriptors(
      const Call&, const pb::ListMetricDescriptorsRequest&) = 0;

  // ---- what List* and Stream* tell ----
  virtual Items pod_sandbox_items(const pb::PodSandboxFilter& filter) = 0;
  virtual Items container_items(const pb::ContainerFilter& filter) = 0;
  virtual Items container_stats_items(const pb::ContainerStatsFilter& filter) = 0;
  virtual Items pod_sandbox_stats_items(const pb::PodSandboxStatsFilter& filter) = 0;
  virtual Items pod_sandbox_metrics_items() = 0;
  virtual Items image_items(const pb::ImageFilter& filter) = 0;

  /// GetContainerEvents: Registry::follow() and unfollow().
  virtual std::uint64_t follow_events(EventSink sink) = 0;
  virtual void unfollow_events(std::uint64_t follower) = 0;

  virtual Result<pb::PullImageResponse> pull_image(const Call&, const pb::PullImageRequest&) = 0;
  virtual Result<pb::ImageStatusResponse> image_status(const Call&, const pb::ImageStatusRequest&) = 0;
  virtual Result<pb::RemoveImageResponse> remove_image(const Call&, const pb::RemoveImageRequest&) = 0;
  virtual Result<pb::ImageFsInfoResponse> image_fs_info(const Call&, const pb::ImageFsInfoRequest&) = 0;

  // ---- beyond CRI ----
  /// From now on new pods have these handlers to choose from. Those that run are not touched.
  virtual void set_handlers(HandlerTable table) = 0;
  /// Looks for everything on the node that is ours and that no record owns; with `repair` removes it.
  virtual Result<std::vector<Finding>> fsck(const Call& call, bool repair) = 0;
  /// Whether this node is well: what Status tells, and more, each by trying it (doctor.h). Blocks on disks and CNI
  /// plugins.
  virtual std::vector<Probe> doctor() = 0;
  /// What happened to a pod: Timelines::find().
  virtual std::vector<Timeline> timelines(std::string_view object) = 0;
};

}  // namespace berth::cri
