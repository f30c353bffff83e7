#pragma once
#include "berth/v1/operator.grpc.pb.h"
#include "image/store.h"
#include "rpc/lanes.h"

namespace berth::rpc {

/// berth.v1.Operator over gRPC: what the command line needs beyond CRI.
class OperatorService final : public ::berth::v1::Operator::CallbackService {
 public:
  /// Both are borrowed and outlive the server.
  OperatorService(image::Store& images, Lanes& lanes) : images_(images), lanes_(lanes) {}

  grpc::ServerWriteReactor<::berth::v1::PullImageProgress>* PullImage(
      grpc::CallbackServerContext* context, const ::berth::v1::PullImageRequest* request) override;

 private:
  image::Store& images_;
  Lanes& lanes_;
};

}  // namespace berth::rpc
