#pragma once
#include "berth/v1/operator.grpc.pb.h"
#include "cri/service.h"
#include "image/store.h"
#include "rpc/lanes.h"

namespace berth::rpc {

/// berth.v1.Operator over gRPC: what the command line needs beyond CRI.
class OperatorService final : public ::berth::v1::Operator::CallbackService {
 public:
  /// All are borrowed and outlive the server.
  OperatorService(cri::Service& service, image::Store& images, Lanes& lanes)
      : service_(service), images_(images), lanes_(lanes) {}

  grpc::ServerWriteReactor<::berth::v1::PullImageProgress>* PullImage(
      grpc::CallbackServerContext* context, const ::berth::v1::PullImageRequest* request) override;

  grpc::ServerUnaryReactor* Why(grpc::CallbackServerContext* context, const ::berth::v1::WhyRequest* request,
                                ::berth::v1::WhyResponse* response) override;

  grpc::ServerUnaryReactor* Fsck(grpc::CallbackServerContext* context, const ::berth::v1::FsckRequest* request,
                                 ::berth::v1::FsckResponse* response) override;

  grpc::ServerUnaryReactor* VerifyImage(grpc::CallbackServerContext* context,
                                        const ::berth::v1::VerifyImageRequest* request,
                                        ::berth::v1::VerifyImageResponse* response) override;

  grpc::ServerUnaryReactor* Doctor(grpc::CallbackServerContext* context, const ::berth::v1::DoctorRequest* request,
                                   ::berth::v1::DoctorResponse* response) override;

 private:
  cri::Service& service_;
  image::Store& images_;
  Lanes& lanes_;
};

}  // namespace berth::rpc
