#pragma once
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <functional>
#include <string>

#include "base/log.h"
#include "cri/service.h"
#include "rpc/lanes.h"
#include "rpc/status.h"

namespace berth::rpc {

/// The deadline and cancellation of a gRPC call as the plain services know them. A little before the client's own: at
/// that moment its gRPC answers "Deadline Exceeded" by itself, and what we have to say about the step would come too
/// late.
inline SteadyTime steady_deadline(const grpc::CallbackServerContext& context) {
  constexpr std::chrono::nanoseconds kLongestLead = std::chrono::milliseconds(500);
  const auto left = context.deadline() - std::chrono::system_clock::now();
  if (left > std::chrono::hours(24 * 365)) return SteadyTime::max();
  const auto left_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left);
  return std::chrono::steady_clock::now() + left_ns - std::min(kLongestLead, left_ns / 5);
}

/// One line per finished call: reads that went well at debug level, everything else at info.
inline void log_call(std::string_view rpc, Lane lane, std::chrono::nanoseconds took, const Error* error) {
  const auto ms = std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(took).count()) + "us";
  if (error != nullptr) {
    log_info("call failed", {{"rpc", rpc}, {"took", ms}, {"code", code_name(error->code())}, {"err", error->text()}});
  } else {
    log_line(lane == Lane::kReads ? LogLevel::kDebug : LogLevel::kInfo, "call", {{"rpc", rpc}, {"took", ms}});
  }
}

/// Calls a blocking body on the thread of a lane, logs how it went and catches what it throws.
template <class Request, class Response>
Result<Response> run_body(const char* rpc, Lane lane, cri::Service& service,
                          Result<Response> (cri::Service::*body)(const cri::Call&, const Request&),
                          const cri::Call& call, const Request& request) {
  const auto start = std::chrono::steady_clock::now();
  Result<Response> result = fail(Code::kCancelled, "the client went away before the call began");
  if (!call.stop.stop_requested()) {
    try {
      result = (service.*body)(call, request);
    } catch (const std::exception& e) {
      result = fail(Code::kInternal, std::string("unexpected: ") + e.what());
    }
  }
  log_call(rpc, lane, std::chrono::steady_clock::now() - start, result ? nullptr : &result.error());
  return result;
}

/// Runs a blocking body `Result<Response> (service.*method)(const Call&, const Request&)` on a lane and finishes the
/// gRPC call with what it says. Deletes itself when gRPC is done with it. The request stays alive until then (gRPC's
/// promise).
template <class Request, class Response>
class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  using Body = Result<Response> (cri::Service::*)(const cri::Call&, const Request&);

  UnaryCall(const char* rpc, Lane lane, cri::Service& service, Body body, const Request& request, Response& response)
      : rpc_(rpc), lane_(lane), service_(service), body_(body), request_(request), response_(response) {}

  void run(Lanes& lanes, grpc::CallbackServerContext& context) {
    call_ = {.stop = stop_.get_token(), .deadline = steady_deadline(context)};
    Pool& pool = lane_ == Lane::kReads ? lanes.reads : lanes.work;
    if (!pool.submit([this] { work(); })) {
      Finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "too many calls are waiting: try again"});
    }
  }

 private:
  void work() {
    auto result = run_body(rpc_, lane_, service_, body_, call_, request_);
    if (!result) {
      Finish(to_status(result.error()));
      return;
    }
    response_ = std::move(*result);
    Finish(grpc::Status::OK);
  }
  void OnCancel() override { stop_.request_stop(); }
  void OnDone() override { delete this; }

  const char* rpc_;
  Lane lane_;
  cri::Service& service_;
  Body body_;
  const Request& request_;
  Response& response_;
  std::stop_source stop_;
  cri::Call call_;
};

/// Starts `body` on its lane and answers with the reactor that gRPC wants.
template <class Request, class Response>
grpc::ServerUnaryReactor* start_call(Lanes& lanes, cri::Service& service, grpc::CallbackServerContext& context,
                                     const char* rpc, Lane lane,
                                     Result<Response> (cri::Service::*body)(const cri::Call&, const Request&),
                                     const Request& request, Response& response) {
  auto* reactor = new UnaryCall<Request, Response>(rpc, lane, service, body, request, response);
  reactor->run(lanes, context);
  return reactor;
}

}  // namespace berth::rpc
