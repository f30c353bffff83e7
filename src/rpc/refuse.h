#pragma once
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <string>

namespace berth::rpc {

inline grpc::Status not_built(const char* rpc) {
  return {grpc::StatusCode::UNIMPLEMENTED, std::string(rpc) + " is not built yet: docs/cri-coverage.md lists what is"};
}

/// The answer of a unary RPC that is not built.
inline grpc::ServerUnaryReactor* refuse(grpc::CallbackServerContext* context, const char* rpc) {
  auto* reactor = context->DefaultReactor();
  reactor->Finish(not_built(rpc));
  return reactor;
}

/// The answer of a streaming RPC that is not built. Deletes itself.
template <class Response>
class RefusedStream final : public grpc::ServerWriteReactor<Response> {
 public:
  explicit RefusedStream(const char* rpc) { this->Finish(not_built(rpc)); }
  void OnDone() override { delete this; }
};

}  // namespace berth::rpc
