#pragma once
#include <grpcpp/support/status.h>

#include "base/error.h"

namespace berth::rpc {

/// The gRPC status of a failure: code mapped 1:1, text as it is, control bytes replaced.
grpc::Status to_status(const Error& error);
/// The other way, for clients: the server's message and the berth code.
Error from_status(const grpc::Status& status);

}  // namespace berth::rpc
