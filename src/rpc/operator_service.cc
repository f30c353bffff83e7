#include "rpc/operator_service.h"

#include <deque>
#include <optional>
#include <utility>

#include "base/thread_annotations.h"
#include "rpc/status.h"
#include "rpc/unary.h"
#include "rpc/work_call.h"

namespace berth::rpc {
namespace {

using Progress = ::berth::v1::PullImageProgress;

// Reports that a slow reader has not taken yet; more are dropped, for each one tells the whole state of its layer.
constexpr std::size_t kMaxQueue = 256;

image::Auth to_auth(const cri::pb::AuthConfig& auth) {
  return {.username = auth.username(),
          .password = auth.password(),
          .auth = auth.auth(),
          .server_address = auth.server_address(),
          .identity_token = auth.identity_token(),
          .registry_token = auth.registry_token()};
}

// Streams the reports of one pull. gRPC takes one write at a time, so they queue here. Deletes itself.
class PullCall final : public grpc::ServerWriteReactor<Progress> {
 public:
  PullCall(image::Store& images, const ::berth::v1::PullImageRequest& request) : images_(images), request_(request) {}

  void run(Lanes& lanes) {
    if (!lanes.work.submit([this] { work(); })) {
      finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "too many calls are waiting: try again"});
    }
  }

 private:
  void work() {
    const auto start = std::chrono::steady_clock::now();
    auto image = images_.pull(request_.image(), {.auth = to_auth(request_.auth()),
                                                 .stop = stop_.get_token(),
                                                 .progress = [this](const image::LayerProgress& p) { report(p); }});
    log_call("Operator.PullImage", Lane::kWork, std::chrono::steady_clock::now() - start,
             image ? nullptr : &image.error());
    if (!image) return finish(to_status(image.error()));
    Progress last;
    last.set_image_id(image->id);
    last.set_image_size_bytes(image->size_bytes);
    enqueue(std::move(last), true);
    finish(grpc::Status::OK);
  }

  void report(const image::LayerProgress& progress) {
    Progress message;
    message.set_layer(progress.digest);
    message.set_state(static_cast<::berth::v1::LayerState>(progress.state));
    message.set_done_bytes(progress.done_bytes);
    message.set_total_bytes(progress.total_bytes);
    enqueue(std::move(message), progress.state >= image::LayerState::kDone);
  }

  void enqueue(Progress message, bool must_arrive) {
    const MutexLock lock(mutex_);
    if (stop_.stop_requested()) return;
    if (queue_.size() >= kMaxQueue && !must_arrive) return;
    queue_.push_back(std::move(message));
    write_next();
  }

  void finish(grpc::Status status) {
    const MutexLock lock(mutex_);
    end_ = std::move(status);
    write_next();
  }

  void write_next() BERTH_REQUIRES(mutex_) {
    if (writing_ || finished_) return;
    if (!queue_.empty() && !stop_.stop_requested()) {
      current_ = std::move(queue_.front());
      queue_.pop_front();
      writing_ = true;
      StartWrite(&current_);
    } else if (end_) {
      finished_ = true;
      Finish(*end_);
    }
  }

  void OnWriteDone(bool ok) override {
    const MutexLock lock(mutex_);
    writing_ = false;
    if (!ok) stop_.request_stop();
    write_next();
  }
  void OnCancel() override { stop_.request_stop(); }
  void OnDone() override { delete this; }

  image::Store& images_;
  const ::berth::v1::PullImageRequest& request_;
  std::stop_source stop_;
  Mutex mutex_;
  std::deque<Progress> queue_ BERTH_GUARDED_BY(mutex_);
  std::optional<grpc::Status> end_ BERTH_GUARDED_BY(mutex_);
  Progress current_ BERTH_GUARDED_BY(mutex_);
  bool writing_ BERTH_GUARDED_BY(mutex_) = false;
  bool finished_ BERTH_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerWriteReactor<Progress>* OperatorService::PullImage(grpc::CallbackServerContext* /*context*/,
                                                               const ::berth::v1::PullImageRequest* request) {
  auto* call = new PullCall(images_, *request);
  call->run(lanes_);
  return call;
}

grpc::ServerUnaryReactor* OperatorService::Fsck(grpc::CallbackServerContext* /*context*/,
                                                const ::berth::v1::FsckRequest* request,
                                                ::berth::v1::FsckResponse* response) {
  return WorkCall::start(lanes_, "Operator.Fsck", [this, request, response](std::stop_token stop) -> Result<> {
    const auto findings = service_.fsck({.stop = std::move(stop)}, request->repair());
    if (!findings) return fail(findings.error());
    for (const auto& finding : *findings) {
      auto* out = response->add_findings();
      out->set_kind(finding.kind);
      out->set_object(finding.object);
      out->set_removed(finding.removed);
      out->set_error(finding.error);
    }
    return {};
  });
}

grpc::ServerUnaryReactor* OperatorService::VerifyImage(grpc::CallbackServerContext* /*context*/,
                                                       const ::berth::v1::VerifyImageRequest* request,
                                                       ::berth::v1::VerifyImageResponse* response) {
  return WorkCall::start(lanes_, "Operator.VerifyImage", [this, request, response](std::stop_token stop) -> Result<> {
    const auto found = images_.verify(request->image(), request->repair(), std::move(stop));
    if (!found) return fail(found.error());
    response->set_image_id(found->image_id);
    response->set_verified_layers(found->verified_layers);
    response->set_unpacked_layers(found->unpacked_layers);
    for (const auto& fault : found->faults) {
      auto* out = response->add_faults();
      out->set_object(fault.object);
      out->set_what(fault.what);
      out->set_mended(fault.mended);
    }
    for (const auto& name : found->lost_names) response->add_lost_names(name);
    return {};
  });
}

namespace {

::berth::v1::Health to_health(cri::Health health) {
  switch (health) {
    case cri::Health::kGood:
      return ::berth::v1::HEALTH_GOOD;
    case cri::Health::kLimited:
      return ::berth::v1::HEALTH_LIMITED;
    case cri::Health::kBad:
      return ::berth::v1::HEALTH_BAD;
  }
  return ::berth::v1::HEALTH_UNKNOWN;
}

}  // namespace

grpc::ServerUnaryReactor* OperatorService::Doctor(grpc::CallbackServerContext* /*context*/,
                                                  const ::berth::v1::DoctorRequest* /*request*/,
                                                  ::berth::v1::DoctorResponse* response) {
  return WorkCall::start(lanes_, "Operator.Doctor", [this, response](const std::stop_token& /*stop*/) -> Result<> {
    for (const auto& probe : service_.doctor()) {
      auto* out = response->add_probes();
      out->set_name(probe.name);
      out->set_health(to_health(probe.health));
      out->set_found(probe.found);
      out->set_remedy(probe.remedy);
      out->set_took_us(probe.took_us);
    }
    return {};
  });
}

// From memory, so that it is answered here and now.
grpc::ServerUnaryReactor* OperatorService::Why(grpc::CallbackServerContext* context,
                                               const ::berth::v1::WhyRequest* request,
                                               ::berth::v1::WhyResponse* response) {
  for (const auto& timeline : service_.timelines(request->object())) {
    auto* pod = response->add_pods();
    pod->set_sandbox_id(timeline.sandbox_id);
    pod->set_pod_namespace(timeline.pod_namespace);
    pod->set_pod_name(timeline.pod_name);
    pod->set_removed(timeline.removed);
    pod->set_left_out(timeline.left_out);
    for (const auto& entry : timeline.entries) {
      auto* out = pod->add_entries();
      out->set_at_ns(entry.at_ns);
      out->set_took_us(entry.took_us);
      out->set_operation(entry.operation);
      out->set_step(entry.step);
      out->set_error(entry.error);
    }
  }
  auto* reactor = context->DefaultReactor();
  reactor->Finish(response->pods_size() > 0
                      ? grpc::Status::OK
                      : to_status(Error(Code::kNotFound, "nothing is known of \"" + request->object() + "\"")));
  return reactor;
}

}  // namespace berth::rpc
