#include "rpc/image_service.h"

#include "rpc/list_stream.h"
#include "rpc/unary.h"

namespace berth::rpc {

// Every RPC of the interface stands here, in the order of its .proto, so that nothing is left out unseen. What is not
// built answers UNIMPLEMENTED and says where that is written down.

grpc::ServerUnaryReactor* ImageService::ListImages(grpc::CallbackServerContext* context,
                                                   const cri::pb::ListImagesRequest* request,
                                                   cri::pb::ListImagesResponse* response) {
  return start_call(lanes_, service_, *context, "ListImages", Lane::kReads, &cri::Service::list_images, *request,
                    *response);
}

grpc::ServerWriteReactor<cri::pb::StreamImagesResponse>* ImageService::StreamImages(
    grpc::CallbackServerContext* /*context*/, const cri::pb::StreamImagesRequest* request) {
  return stream_list<cri::pb::StreamImagesResponse, cri::pb::Image>(
      lanes_, "StreamImages", [this, request] { return service_.image_items(request->filter()); },
      &cri::pb::StreamImagesResponse::mutable_images);
}

grpc::ServerUnaryReactor* ImageService::ImageStatus(grpc::CallbackServerContext* context,
                                                    const cri::pb::ImageStatusRequest* request,
                                                    cri::pb::ImageStatusResponse* response) {
  return start_call(lanes_, service_, *context, "ImageStatus", Lane::kReads, &cri::Service::image_status, *request,
                    *response);
}

grpc::ServerUnaryReactor* ImageService::PullImage(grpc::CallbackServerContext* context,
                                                  const cri::pb::PullImageRequest* request,
                                                  cri::pb::PullImageResponse* response) {
  return start_call(lanes_, service_, *context, "PullImage", Lane::kWork, &cri::Service::pull_image, *request,
                    *response);
}

grpc::ServerUnaryReactor* ImageService::RemoveImage(grpc::CallbackServerContext* context,
                                                    const cri::pb::RemoveImageRequest* request,
                                                    cri::pb::RemoveImageResponse* response) {
  return start_call(lanes_, service_, *context, "RemoveImage", Lane::kWork, &cri::Service::remove_image, *request,
                    *response);
}

grpc::ServerUnaryReactor* ImageService::ImageFsInfo(grpc::CallbackServerContext* context,
                                                    const cri::pb::ImageFsInfoRequest* request,
                                                    cri::pb::ImageFsInfoResponse* response) {
  return start_call(lanes_, service_, *context, "ImageFsInfo", Lane::kReads, &cri::Service::image_fs_info, *request,
                    *response);
}

}  // namespace berth::rpc
