#include "rpc/image_service.h"

#include "rpc/list_calls.h"
#include "rpc/unary.h"

namespace berth::rpc {

// Every RPC of the interface stands here, in the order of its .proto, so that nothing is left out unseen. What is not
// built answers UNIMPLEMENTED and says where that is written down.

grpc::ServerUnaryReactor* ImageService::ListImages(grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes,
                                                   grpc::ByteBuffer* response) {
  const auto request = parse_request<cri::pb::ListImagesRequest>(*bytes);
  if (!request) return refuse_list(*context);
  return start_list(lanes_,
                    {"ListImages", cri::pb::ListImagesResponse::kImagesFieldNumber,
                     [this, request] { return service_.image_items(request->filter()); }},
                    *response);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ImageService::StreamImages(grpc::CallbackServerContext* /*context*/,
                                                                       const grpc::ByteBuffer* bytes) {
  const auto request = parse_request<cri::pb::StreamImagesRequest>(*bytes);
  if (!request) return refuse_stream();
  return start_stream(lanes_, {"StreamImages", cri::pb::StreamImagesResponse::kImagesFieldNumber,
                               [this, request] { return service_.image_items(request->filter()); }});
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
