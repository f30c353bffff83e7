#pragma once
#include <grpcpp/support/server_callback.h>

#include <stop_token>

#include "cri/service.h"

namespace berth::rpc {

/// One GetContainerEvents stream: the state of everything, then each change, until the client leaves. A client that
/// reads too slowly is ended with RESOURCE_EXHAUSTED; connecting anew tells it the state again. `ending` ends it with
/// UNAVAILABLE. Deletes itself.
grpc::ServerWriteReactor<cri::pb::ContainerEventResponse>* follow_events(cri::Service& service, std::stop_token ending);

}  // namespace berth::rpc
