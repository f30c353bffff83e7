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

}  // namespace berth::rpc
