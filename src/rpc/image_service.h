#pragma once
#include "cri/runtime/v1/api.grpc.pb.h"
#include "cri/service.h"
#include "rpc/lanes.h"

namespace berth::rpc {

/// Lists are answered with bytes (list_calls.h).
using CriImageService = ::runtime::v1::ImageService;
using ImageServiceBase = CriImageService::WithRawCallbackMethod_StreamImages<
    CriImageService::WithRawCallbackMethod_ListImages<CriImageService::CallbackService>>;

/// runtime.v1.ImageService over gRPC: hands each call to cri::Service on its lane.
class ImageService final : public ImageServiceBase {
 public:
  /// Both are borrowed and outlive the server.
  ImageService(cri::Service& service, Lanes& lanes) : service_(service), lanes_(lanes) {}

  grpc::ServerUnaryReactor* ListImages(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamImages(grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* ImageStatus(grpc::CallbackServerContext* context,
                                        const cri::pb::ImageStatusRequest* request,
                                        cri::pb::ImageStatusResponse* response) override;
  grpc::ServerUnaryReactor* PullImage(grpc::CallbackServerContext* context, const cri::pb::PullImageRequest* request,
                                      cri::pb::PullImageResponse* response) override;
  grpc::ServerUnaryReactor* RemoveImage(grpc::CallbackServerContext* context,
                                        const cri::pb::RemoveImageRequest* request,
                                        cri::pb::RemoveImageResponse* response) override;
  grpc::ServerUnaryReactor* ImageFsInfo(grpc::CallbackServerContext* context,
                                        const cri::pb::ImageFsInfoRequest* request,
                                        cri::pb::ImageFsInfoResponse* response) override;

 private:
  cri::Service& service_;
  Lanes& lanes_;
};

}  // namespace berth::rpc
