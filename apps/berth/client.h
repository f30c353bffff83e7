#pragma once
#include <grpcpp/client_context.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "berth/v1/operator.grpc.pb.h"
#include "cri/runtime/v1/api.grpc.pb.h"
#include "rpc/status.h"

namespace berth::cli {

namespace pb = ::runtime::v1;

/// A connection to berthd. Calls block; a daemon that is not there is a kUnavailable error that says what to do.
class Client {
 public:
  explicit Client(std::string socket_path);

  [[nodiscard]] pb::RuntimeService::Stub& runtime() { return *runtime_; }
  [[nodiscard]] pb::ImageService::Stub& images() { return *images_; }
  [[nodiscard]] ::berth::v1::Operator::Stub& operators() { return *operators_; }

  /// `client.call(client.runtime(), &Stub::Version, request, reply)`: zero timeout means none.
  template <class Stub, class Request, class Reply>
  Result<Reply> call(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Reply*),
                     const Request& request, std::chrono::milliseconds timeout = std::chrono::seconds(30)) {
    grpc::ClientContext context;
    if (timeout.count() > 0) context.set_deadline(std::chrono::system_clock::now() + timeout);
    Reply reply;
    const grpc::Status status = (stub.*method)(&context, request, &reply);
    if (!status.ok()) return fail(explain(status));
    return reply;
  }

  /// The error of a status, with a hint when the daemon could not be reached.
  [[nodiscard]] Error explain(const grpc::Status& status) const;

 private:
  std::string socket_path_;
  std::unique_ptr<pb::RuntimeService::Stub> runtime_;
  std::unique_ptr<pb::ImageService::Stub> images_;
  std::unique_ptr<::berth::v1::Operator::Stub> operators_;
};

/// The pod that `name` means: an id, a unique prefix of one, or a pod's name. kNotFound, or kInvalid when it is
/// ambiguous.
Result<pb::PodSandbox> find_pod(Client& client, const std::string& name);
/// The container that `name` means: an id, a unique prefix, a container's name, or the only container of a pod so
/// named.
Result<pb::Container> find_container(Client& client, const std::string& name);

/// "13 chars of the id", as tables show it.
std::string short_id(const std::string& id);
/// "3 minutes ago" of nanoseconds since the epoch; "-" for 0.
std::string age(std::int64_t since_ns);

}  // namespace berth::cli
