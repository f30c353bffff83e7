#pragma once
#include <stop_token>

#include "cri/runtime/v1/api.grpc.pb.h"
#include "cri/service.h"
#include "rpc/lanes.h"

namespace berth::rpc {

/// Lists are answered with bytes (list_calls.h).
using CriRuntimeService = ::runtime::v1::RuntimeService;
using RuntimeServiceBase = CriRuntimeService::WithRawCallbackMethod_StreamPodSandboxMetrics<
    CriRuntimeService::WithRawCallbackMethod_ListPodSandboxMetrics<
        CriRuntimeService::WithRawCallbackMethod_StreamPodSandboxStats<
            CriRuntimeService::WithRawCallbackMethod_ListPodSandboxStats<
                CriRuntimeService::WithRawCallbackMethod_StreamContainerStats<
                    CriRuntimeService::WithRawCallbackMethod_ListContainerStats<
                        CriRuntimeService::WithRawCallbackMethod_StreamContainers<
                            CriRuntimeService::WithRawCallbackMethod_ListContainers<
                                CriRuntimeService::WithRawCallbackMethod_StreamPodSandboxes<
                                    CriRuntimeService::WithRawCallbackMethod_ListPodSandbox<
                                        CriRuntimeService::CallbackService>>>>>>>>>>;

/// runtime.v1.RuntimeService over gRPC: hands each call to cri::Service on its lane.
class RuntimeService final : public RuntimeServiceBase {
 public:
  /// Both are borrowed and outlive the server.
  RuntimeService(cri::Service& service, Lanes& lanes) : service_(service), lanes_(lanes) {}
  /// Ends the streams that would go on for ever.
  void end_streams() { ending_.request_stop(); }

  grpc::ServerUnaryReactor* Version(grpc::CallbackServerContext* context, const cri::pb::VersionRequest* request,
                                    cri::pb::VersionResponse* response) override;
  grpc::ServerUnaryReactor* RunPodSandbox(grpc::CallbackServerContext* context,
                                          const cri::pb::RunPodSandboxRequest* request,
                                          cri::pb::RunPodSandboxResponse* response) override;
  grpc::ServerUnaryReactor* StopPodSandbox(grpc::CallbackServerContext* context,
                                           const cri::pb::StopPodSandboxRequest* request,
                                           cri::pb::StopPodSandboxResponse* response) override;
  grpc::ServerUnaryReactor* RemovePodSandbox(grpc::CallbackServerContext* context,
                                             const cri::pb::RemovePodSandboxRequest* request,
                                             cri::pb::RemovePodSandboxResponse* response) override;
  grpc::ServerUnaryReactor* PodSandboxStatus(grpc::CallbackServerContext* context,
                                             const cri::pb::PodSandboxStatusRequest* request,
                                             cri::pb::PodSandboxStatusResponse* response) override;
  grpc::ServerUnaryReactor* ListPodSandbox(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                           grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamPodSandboxes(grpc::CallbackServerContext* context,
                                                                 const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* CreateContainer(grpc::CallbackServerContext* context,
                                            const cri::pb::CreateContainerRequest* request,
                                            cri::pb::CreateContainerResponse* response) override;
  grpc::ServerUnaryReactor* StartContainer(grpc::CallbackServerContext* context,
                                           const cri::pb::StartContainerRequest* request,
                                           cri::pb::StartContainerResponse* response) override;
  grpc::ServerUnaryReactor* StopContainer(grpc::CallbackServerContext* context,
                                          const cri::pb::StopContainerRequest* request,
                                          cri::pb::StopContainerResponse* response) override;
  grpc::ServerUnaryReactor* RemoveContainer(grpc::CallbackServerContext* context,
                                            const cri::pb::RemoveContainerRequest* request,
                                            cri::pb::RemoveContainerResponse* response) override;
  grpc::ServerUnaryReactor* ListContainers(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                           grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamContainers(grpc::CallbackServerContext* context,
                                                               const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* ContainerStatus(grpc::CallbackServerContext* context,
                                            const cri::pb::ContainerStatusRequest* request,
                                            cri::pb::ContainerStatusResponse* response) override;
  grpc::ServerUnaryReactor* UpdateContainerResources(grpc::CallbackServerContext* context,
                                                     const cri::pb::UpdateContainerResourcesRequest* request,
                                                     cri::pb::UpdateContainerResourcesResponse* response) override;
  grpc::ServerUnaryReactor* ReopenContainerLog(grpc::CallbackServerContext* context,
                                               const cri::pb::ReopenContainerLogRequest* request,
                                               cri::pb::ReopenContainerLogResponse* response) override;
  grpc::ServerUnaryReactor* ExecSync(grpc::CallbackServerContext* context, const cri::pb::ExecSyncRequest* request,
                                     cri::pb::ExecSyncResponse* response) override;
  grpc::ServerUnaryReactor* Exec(grpc::CallbackServerContext* context, const cri::pb::ExecRequest* request,
                                 cri::pb::ExecResponse* response) override;
  grpc::ServerUnaryReactor* Attach(grpc::CallbackServerContext* context, const cri::pb::AttachRequest* request,
                                   cri::pb::AttachResponse* response) override;
  grpc::ServerUnaryReactor* PortForward(grpc::CallbackServerContext* context,
                                        const cri::pb::PortForwardRequest* request,
                                        cri::pb::PortForwardResponse* response) override;
  grpc::ServerUnaryReactor* ContainerStats(grpc::CallbackServerContext* context,
                                           const cri::pb::ContainerStatsRequest* request,
                                           cri::pb::ContainerStatsResponse* response) override;
  grpc::ServerUnaryReactor* ListContainerStats(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                               grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamContainerStats(grpc::CallbackServerContext* context,
                                                                   const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* PodSandboxStats(grpc::CallbackServerContext* context,
                                            const cri::pb::PodSandboxStatsRequest* request,
                                            cri::pb::PodSandboxStatsResponse* response) override;
  grpc::ServerUnaryReactor* ListPodSandboxStats(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                                grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamPodSandboxStats(grpc::CallbackServerContext* context,
                                                                    const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* UpdateRuntimeConfig(grpc::CallbackServerContext* context,
                                                const cri::pb::UpdateRuntimeConfigRequest* request,
                                                cri::pb::UpdateRuntimeConfigResponse* response) override;
  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context, const cri::pb::StatusRequest* request,
                                   cri::pb::StatusResponse* response) override;
  grpc::ServerUnaryReactor* CheckpointContainer(grpc::CallbackServerContext* context,
                                                const cri::pb::CheckpointContainerRequest* request,
                                                cri::pb::CheckpointContainerResponse* response) override;
  grpc::ServerUnaryReactor* CheckpointPod(grpc::CallbackServerContext* context,
                                          const cri::pb::CheckpointPodRequest* request,
                                          cri::pb::CheckpointPodResponse* response) override;
  grpc::ServerUnaryReactor* RestorePod(grpc::CallbackServerContext* context, const cri::pb::RestorePodRequest* request,
                                       cri::pb::RestorePodResponse* response) override;
  grpc::ServerWriteReactor<cri::pb::ContainerEventResponse>* GetContainerEvents(
      grpc::CallbackServerContext* context, const cri::pb::GetEventsRequest* request) override;
  grpc::ServerUnaryReactor* ListMetricDescriptors(grpc::CallbackServerContext* context,
                                                  const cri::pb::ListMetricDescriptorsRequest* request,
                                                  cri::pb::ListMetricDescriptorsResponse* response) override;
  grpc::ServerUnaryReactor* ListPodSandboxMetrics(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                                  grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamPodSandboxMetrics(grpc::CallbackServerContext* context,
                                                                      const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* RuntimeConfig(grpc::CallbackServerContext* context,
                                          const cri::pb::RuntimeConfigRequest* request,
                                          cri::pb::RuntimeConfigResponse* response) override;
  grpc::ServerUnaryReactor* UpdatePodSandboxResources(grpc::CallbackServerContext* context,
                                                      const cri::pb::UpdatePodSandboxResourcesRequest* request,
                                                      cri::pb::UpdatePodSandboxResourcesResponse* response) override;

 private:
  cri::Service& service_;
  Lanes& lanes_;
  std::stop_source ending_;
};

}  // namespace berth::rpc
