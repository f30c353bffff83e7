#include "rpc/operator_service.h"
#include "rpc/status.h"
#include "rpc/unary.h"

namespace berth::rpc {
namespace {

// Reads an image on the work lane. Deletes itself.
class VerifyCall final : public grpc::ServerUnaryReactor {
 public:
  VerifyCall(image::Store& images, const ::berth::v1::VerifyImageRequest& request,
             ::berth::v1::VerifyImageResponse& response)
      : images_(images), request_(request), response_(response) {}

  void run(Lanes& lanes) {
    if (!lanes.work.submit([this] { work(); })) {
      Finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "too many calls are waiting: try again"});
    }
  }

 private:
  void work() {
    const auto start = std::chrono::steady_clock::now();
    const auto found = images_.verify(request_.image(), request_.repair(), stop_.get_token());
    log_call("Operator.VerifyImage", Lane::kWork, std::chrono::steady_clock::now() - start,
             found ? nullptr : &found.error());
    if (!found) return Finish(to_status(found.error()));
    response_.set_image_id(found->image_id);
    response_.set_verified_layers(found->verified_layers);
    response_.set_unpacked_layers(found->unpacked_layers);
    for (const auto& fault : found->faults) {
      auto* out = response_.add_faults();
      out->set_object(fault.object);
      out->set_what(fault.what);
      out->set_mended(fault.mended);
    }
    for (const auto& name : found->lost_names) response_.add_lost_names(name);
    Finish(grpc::Status::OK);
  }
  void OnCancel() override { stop_.request_stop(); }
  void OnDone() override { delete this; }

  image::Store& images_;
  const ::berth::v1::VerifyImageRequest& request_;
  ::berth::v1::VerifyImageResponse& response_;
  std::stop_source stop_;
};

}  // namespace

grpc::ServerUnaryReactor* OperatorService::VerifyImage(grpc::CallbackServerContext* /*context*/,
                                                       const ::berth::v1::VerifyImageRequest* request,
                                                       ::berth::v1::VerifyImageResponse* response) {
  auto* call = new VerifyCall(images_, *request, *response);
  call->run(lanes_);
  return call;
}

}  // namespace berth::rpc
