#pragma once
#include <grpcpp/support/server_callback.h>

#include <exception>
#include <functional>
#include <stop_token>
#include <string>
#include <utility>

#include "rpc/lanes.h"
#include "rpc/status.h"
#include "rpc/unary.h"

namespace berth::rpc {

/// A call of Berth's own interface: `body` fills the answer on a thread of the work lane, is asked to stop when the
/// caller goes, and its outcome is logged and sent. Deletes itself.
class WorkCall final : public grpc::ServerUnaryReactor {
 public:
  using Body = std::function<Result<>(std::stop_token)>;

  /// What `body` refers to outlives the call.
  static WorkCall* start(Lanes& lanes, std::string name, Body body) {
    auto* call = new WorkCall(std::move(name), std::move(body));
    if (!lanes.work.submit([call] { call->work(); })) {
      call->Finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "too many calls are waiting: try again"});
    }
    return call;
  }

 private:
  WorkCall(std::string name, Body body) : name_(std::move(name)), body_(std::move(body)) {}

  void work() {
    const auto start = std::chrono::steady_clock::now();
    Result<> done;
    try {
      done = body_(stop_.get_token());
    } catch (const std::exception& error) {
      done = fail(Code::kInternal, error.what());
    }
    log_call(name_, Lane::kWork, std::chrono::steady_clock::now() - start, done ? nullptr : &done.error());
    Finish(done ? grpc::Status::OK : to_status(done.error()));
  }
  void OnCancel() override { stop_.request_stop(); }
  void OnDone() override { delete this; }

  const std::string name_;
  const Body body_;
  std::stop_source stop_;
};

}  // namespace berth::rpc
