#include "rpc/runtime_service.h"

#include "rpc/events_call.h"
#include "rpc/list_calls.h"
#include "rpc/unary.h"

namespace berth::rpc {

// Every RPC of the interface stands here, in the order of its .proto, so that nothing is left out unseen. What is not
// built answers UNIMPLEMENTED and says where that is written down.

grpc::ServerUnaryReactor* RuntimeService::Version(grpc::CallbackServerContext* context,
                                                  const cri::pb::VersionRequest* request,
                                                  cri::pb::VersionResponse* response) {
  return start_call(lanes_, service_, *context, "Version", Lane::kReads, &cri::Service::version, *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::RunPodSandbox(grpc::CallbackServerContext* context,
                                                        const cri::pb::RunPodSandboxRequest* request,
                                                        cri::pb::RunPodSandboxResponse* response) {
  return start_call(lanes_, service_, *context, "RunPodSandbox", Lane::kWork, &cri::Service::run_pod_sandbox, *request,
                    *response);
}

grpc::ServerUnaryReactor* RuntimeService::StopPodSandbox(grpc::CallbackServerContext* context,
                                                         const cri::pb::StopPodSandboxRequest* request,
                                                         cri::pb::StopPodSandboxResponse* response) {
  return start_call(lanes_, service_, *context, "StopPodSandbox", Lane::kWork, &cri::Service::stop_pod_sandbox,
                    *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::RemovePodSandbox(grpc::CallbackServerContext* context,
                                                           const cri::pb::RemovePodSandboxRequest* request,
                                                           cri::pb::RemovePodSandboxResponse* response) {
  return start_call(lanes_, service_, *context, "RemovePodSandbox", Lane::kWork, &cri::Service::remove_pod_sandbox,
                    *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::PodSandboxStatus(grpc::CallbackServerContext* context,
                                                           const cri::pb::PodSandboxStatusRequest* request,
                                                           cri::pb::PodSandboxStatusResponse* response) {
  return start_call(lanes_, service_, *context, "PodSandboxStatus", Lane::kReads, &cri::Service::pod_sandbox_status,
                    *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::ListPodSandbox(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* bytes, grpc::ByteBuffer* response) {
  const auto request = parse_request<cri::pb::ListPodSandboxRequest>(*bytes);
  if (!request) return refuse_list(*context);
  return start_list(lanes_,
                    {"ListPodSandbox", cri::pb::ListPodSandboxResponse::kItemsFieldNumber,
                     [this, request] { return service_.pod_sandbox_items(request->filter()); }},
                    *response);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* RuntimeService::StreamPodSandboxes(grpc::CallbackServerContext* /*context*/,
                                                                               const grpc::ByteBuffer* bytes) {
  const auto request = parse_request<cri::pb::StreamPodSandboxesRequest>(*bytes);
  if (!request) return refuse_stream();
  return start_stream(lanes_, {"StreamPodSandboxes", cri::pb::StreamPodSandboxesResponse::kPodSandboxesFieldNumber,
                               [this, request] { return service_.pod_sandbox_items(request->filter()); }});
}

grpc::ServerUnaryReactor* RuntimeService::CreateContainer(grpc::CallbackServerContext* context,
                                                          const cri::pb::CreateContainerRequest* request,
                                                          cri::pb::CreateContainerResponse* response) {
  return start_call(lanes_, service_, *context, "CreateContainer", Lane::kWork, &cri::Service::create_container,
                    *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::StartContainer(grpc::CallbackServerContext* context,
                                                         const cri::pb::StartContainerRequest* request,
                                                         cri::pb::StartContainerResponse* response) {
  return start_call(lanes_, service_, *context, "StartContainer", Lane::kWork, &cri::Service::start_container, *request,
                    *response);
}

grpc::ServerUnaryReactor* RuntimeService::StopContainer(grpc::CallbackServerContext* context,
                                                        const cri::pb::StopContainerRequest* request,
                                                        cri::pb::StopContainerResponse* response) {
  return start_call(lanes_, service_, *context, "StopContainer", Lane::kWork, &cri::Service::stop_container, *request,
                    *response);
}

grpc::ServerUnaryReactor* RuntimeService::RemoveContainer(grpc::CallbackServerContext* context,
                                                          const cri::pb::RemoveContainerRequest* request,
                                                          cri::pb::RemoveContainerResponse* response) {
  return start_call(lanes_, service_, *context, "RemoveContainer", Lane::kWork, &cri::Service::remove_container,
                    *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::ListContainers(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* bytes, grpc::ByteBuffer* response) {
  const auto request = parse_request<cri::pb::ListContainersRequest>(*bytes);
  if (!request) return refuse_list(*context);
  return start_list(lanes_,
                    {"ListContainers", cri::pb::ListContainersResponse::kContainersFieldNumber,
                     [this, request] { return service_.container_items(request->filter()); }},
                    *response);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* RuntimeService::StreamContainers(grpc::CallbackServerContext* /*context*/,
                                                                             const grpc::ByteBuffer* bytes) {
  const auto request = parse_request<cri::pb::StreamContainersRequest>(*bytes);
  if (!request) return refuse_stream();
  return start_stream(lanes_, {"StreamContainers", cri::pb::StreamContainersResponse::kContainersFieldNumber,
                               [this, request] { return service_.container_items(request->filter()); }});
}

grpc::ServerUnaryReactor* RuntimeService::ContainerStatus(grpc::CallbackServerContext* context,
                                                          const cri::pb::ContainerStatusRequest* request,
                                                          cri::pb::ContainerStatusResponse* response) {
  return start_call(lanes_, service_, *context, "ContainerStatus", Lane::kReads, &cri::Service::container_status,
                    *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::UpdateContainerResources(
    grpc::CallbackServerContext* context, const cri::pb::UpdateContainerResourcesRequest* request,
    cri::pb::UpdateContainerResourcesResponse* response) {
  return start_call(lanes_, service_, *context, "UpdateContainerResources", Lane::kWork,
                    &cri::Service::update_container_resources, *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::ReopenContainerLog(grpc::CallbackServerContext* context,
                                                             const cri::pb::ReopenContainerLogRequest* request,
                                                             cri::pb::ReopenContainerLogResponse* response) {
  return start_call(lanes_, service_, *context, "ReopenContainerLog", Lane::kWork, &cri::Service::reopen_container_log,
                    *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::ExecSync(grpc::CallbackServerContext* context,
                                                   const cri::pb::ExecSyncRequest* request,
                                                   cri::pb::ExecSyncResponse* response) {
  return start_call(lanes_, service_, *context, "ExecSync", Lane::kWork, &cri::Service::exec_sync, *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::Exec(grpc::CallbackServerContext* context,
                                               const cri::pb::ExecRequest* request, cri::pb::ExecResponse* response) {
  return start_call(lanes_, service_, *context, "Exec", Lane::kWork, &cri::Service::exec, *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::Attach(grpc::CallbackServerContext* context,
                                                 const cri::pb::AttachRequest* request,
                                                 cri::pb::AttachResponse* response) {
  return start_call(lanes_, service_, *context, "Attach", Lane::kWork, &cri::Service::attach, *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::PortForward(grpc::CallbackServerContext* context,
                                                      const cri::pb::PortForwardRequest* request,
                                                      cri::pb::PortForwardResponse* response) {
  return start_call(lanes_, service_, *context, "PortForward", Lane::kWork, &cri::Service::port_forward, *request,
                    *response);
}

grpc::ServerUnaryReactor* RuntimeService::ContainerStats(grpc::CallbackServerContext* context,
                                                         const cri::pb::ContainerStatsRequest* request,
                                                         cri::pb::ContainerStatsResponse* response) {
  return start_call(lanes_, service_, *context, "ContainerStats", Lane::kWork, &cri::Service::container_stats, *request,
                    *response);
}

grpc::ServerUnaryReactor* RuntimeService::ListContainerStats(grpc::CallbackServerContext* context,
                                                             const grpc::ByteBuffer* bytes,
                                                             grpc::ByteBuffer* response) {
  const auto request = parse_request<cri::pb::ListContainerStatsRequest>(*bytes);
  if (!request) return refuse_list(*context);
  return start_list(lanes_,
                    {"ListContainerStats", cri::pb::ListContainerStatsResponse::kStatsFieldNumber,
                     [this, request] { return service_.container_stats_items(request->filter()); }},
                    *response);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* RuntimeService::StreamContainerStats(
    grpc::CallbackServerContext* /*context*/, const grpc::ByteBuffer* bytes) {
  const auto request = parse_request<cri::pb::StreamContainerStatsRequest>(*bytes);
  if (!request) return refuse_stream();
  return start_stream(lanes_,
                      {"StreamContainerStats", cri::pb::StreamContainerStatsResponse::kContainerStatsFieldNumber,
                       [this, request] { return service_.container_stats_items(request->filter()); }});
}

grpc::ServerUnaryReactor* RuntimeService::PodSandboxStats(grpc::CallbackServerContext* context,
                                                          const cri::pb::PodSandboxStatsRequest* request,
                                                          cri::pb::PodSandboxStatsResponse* response) {
  return start_call(lanes_, service_, *context, "PodSandboxStats", Lane::kWork, &cri::Service::pod_sandbox_stats,
                    *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::ListPodSandboxStats(grpc::CallbackServerContext* context,
                                                              const grpc::ByteBuffer* bytes,
                                                              grpc::ByteBuffer* response) {
  const auto request = parse_request<cri::pb::ListPodSandboxStatsRequest>(*bytes);
  if (!request) return refuse_list(*context);
  return start_list(lanes_,
                    {"ListPodSandboxStats", cri::pb::ListPodSandboxStatsResponse::kStatsFieldNumber,
                     [this, request] { return service_.pod_sandbox_stats_items(request->filter()); }},
                    *response);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* RuntimeService::StreamPodSandboxStats(
    grpc::CallbackServerContext* /*context*/, const grpc::ByteBuffer* bytes) {
  const auto request = parse_request<cri::pb::StreamPodSandboxStatsRequest>(*bytes);
  if (!request) return refuse_stream();
  return start_stream(lanes_,
                      {"StreamPodSandboxStats", cri::pb::StreamPodSandboxStatsResponse::kPodSandboxStatsFieldNumber,
                       [this, request] { return service_.pod_sandbox_stats_items(request->filter()); }});
}

grpc::ServerUnaryReactor* RuntimeService::UpdateRuntimeConfig(grpc::CallbackServerContext* context,
                                                              const cri::pb::UpdateRuntimeConfigRequest* request,
                                                              cri::pb::UpdateRuntimeConfigResponse* response) {
  return start_call(lanes_, service_, *context, "UpdateRuntimeConfig", Lane::kWork,
                    &cri::Service::update_runtime_config, *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::Status(grpc::CallbackServerContext* context,
                                                 const cri::pb::StatusRequest* request,
                                                 cri::pb::StatusResponse* response) {
  return start_call(lanes_, service_, *context, "Status", Lane::kReads, &cri::Service::status, *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::CheckpointContainer(grpc::CallbackServerContext* context,
                                                              const cri::pb::CheckpointContainerRequest* request,
                                                              cri::pb::CheckpointContainerResponse* response) {
  return start_call(lanes_, service_, *context, "CheckpointContainer", Lane::kWork, &cri::Service::checkpoint_container,
                    *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::CheckpointPod(grpc::CallbackServerContext* context,
                                                        const cri::pb::CheckpointPodRequest* request,
                                                        cri::pb::CheckpointPodResponse* response) {
  return start_call(lanes_, service_, *context, "CheckpointPod", Lane::kWork, &cri::Service::checkpoint_pod, *request,
                    *response);
}

grpc::ServerUnaryReactor* RuntimeService::RestorePod(grpc::CallbackServerContext* context,
                                                     const cri::pb::RestorePodRequest* request,
                                                     cri::pb::RestorePodResponse* response) {
  return start_call(lanes_, service_, *context, "RestorePod", Lane::kWork, &cri::Service::restore_pod, *request,
                    *response);
}

grpc::ServerWriteReactor<cri::pb::ContainerEventResponse>* RuntimeService::GetContainerEvents(
    grpc::CallbackServerContext* /*context*/, const cri::pb::GetEventsRequest* /*request*/) {
  return follow_events(service_, ending_.get_token());
}

grpc::ServerUnaryReactor* RuntimeService::ListMetricDescriptors(grpc::CallbackServerContext* context,
                                                                const cri::pb::ListMetricDescriptorsRequest* request,
                                                                cri::pb::ListMetricDescriptorsResponse* response) {
  return start_call(lanes_, service_, *context, "ListMetricDescriptors", Lane::kReads,
                    &cri::Service::list_metric_descriptors, *request, *response);
}

grpc::ServerUnaryReactor* RuntimeService::ListPodSandboxMetrics(grpc::CallbackServerContext* /*context*/,
                                                                const grpc::ByteBuffer* /*bytes*/,
                                                                grpc::ByteBuffer* response) {
  return start_list(lanes_,
                    {"ListPodSandboxMetrics", cri::pb::ListPodSandboxMetricsResponse::kPodMetricsFieldNumber,
                     [this] { return service_.pod_sandbox_metrics_items(); }},
                    *response);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* RuntimeService::StreamPodSandboxMetrics(
    grpc::CallbackServerContext* /*context*/, const grpc::ByteBuffer* /*bytes*/) {
  return start_stream(
      lanes_, {"StreamPodSandboxMetrics", cri::pb::StreamPodSandboxMetricsResponse::kPodSandboxMetricsFieldNumber,
               [this] { return service_.pod_sandbox_metrics_items(); }});
}

grpc::ServerUnaryReactor* RuntimeService::RuntimeConfig(grpc::CallbackServerContext* context,
                                                        const cri::pb::RuntimeConfigRequest* request,
                                                        cri::pb::RuntimeConfigResponse* response) {
  return start_call(lanes_, service_, *context, "RuntimeConfig", Lane::kReads, &cri::Service::runtime_config, *request,
                    *response);
}

grpc::ServerUnaryReactor* RuntimeService::UpdatePodSandboxResources(
    grpc::CallbackServerContext* context, const cri::pb::UpdatePodSandboxResourcesRequest* request,
    cri::pb::UpdatePodSandboxResourcesResponse* response) {
  return start_call(lanes_, service_, *context, "UpdatePodSandboxResources", Lane::kWork,
                    &cri::Service::update_pod_sandbox_resources, *request, *response);
}

}  // namespace berth::rpc
