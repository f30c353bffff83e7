#pragma once
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <optional>
#include <utility>

#include "cri/service.h"
#include "rpc/lanes.h"

namespace berth::rpc {

/// One List* RPC or its Stream* twin: the answer's bytes are made of the items' bytes, each as the field `field` of the
/// answer, a repeated one, and of nothing else.
struct ListForm {
  const char* rpc;
  unsigned field;
  /// Makes the source; called once, on the reads lane.
  std::function<cri::Items()> source;
};

/// Answers a List* RPC. Deletes itself.
grpc::ServerUnaryReactor* start_list(Lanes& lanes, ListForm form, grpc::ByteBuffer& response);

/// Answers a Stream* RPC: the list of what there is at one moment, every item once, in messages of about a quarter of a
/// mebibyte, then the end. Each message is made when the one before it has gone: the client works on one while the next
/// is made, and a slow reader holds the records and one message. Deletes itself.
grpc::ServerWriteReactor<grpc::ByteBuffer>* start_stream(Lanes& lanes, ListForm form);

/// For a request that is no such message.
grpc::ServerUnaryReactor* refuse_list(grpc::CallbackServerContext& context);
grpc::ServerWriteReactor<grpc::ByteBuffer>* refuse_stream();

/// The request of a raw call; nothing when its bytes are no `Request`.
template <class Request>
std::optional<Request> parse_request(const grpc::ByteBuffer& bytes) {
  grpc::ByteBuffer copy(bytes);  // of references
  Request request;
  if (!grpc::SerializationTraits<Request>::Deserialize(&copy, &request).ok()) return std::nullopt;
  return request;
}

}  // namespace berth::rpc
