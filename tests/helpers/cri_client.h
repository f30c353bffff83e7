#pragma once
#include <grpcpp/client_context.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "cri/runtime/v1/api.grpc.pb.h"
#include "rpc/status.h"

namespace berth::test {

namespace pb = ::runtime::v1;
using Runtime = pb::RuntimeService::Stub;
using Images = pb::ImageService::Stub;

/// A CRI client as a kubelet is one, with the few steps that tests repeat. Thread-safe; calls block. It speaks to any
/// CRI server. An error's code is the gRPC status's.
class CriClient final {
 public:
  explicit CriClient(const std::string& socket_path);

  [[nodiscard]] Runtime& runtime() { return *runtime_; }
  [[nodiscard]] Images& images() { return *images_; }
  [[nodiscard]] const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  /// `call(&Runtime::Version, request)`.
  template <class Request, class Reply>
  Result<Reply> call(grpc::Status (Runtime::*method)(grpc::ClientContext*, const Request&, Reply*),
                     const Request& request, std::chrono::milliseconds timeout = kTimeout) {
    return call(*runtime_, method, request, timeout);
  }
  template <class Request, class Reply>
  Result<Reply> call(grpc::Status (Images::*method)(grpc::ClientContext*, const Request&, Reply*),
                     const Request& request, std::chrono::milliseconds timeout = kTimeout) {
    return call(*images_, method, request, timeout);
  }

  /// Answers the reference to create containers from.
  Result<std::string> pull(const std::string& image);
  Result<std::string> run_pod(const pb::PodSandboxConfig& config, const std::string& handler = "");
  Result<std::string> create(const std::string& pod_id, const pb::ContainerConfig& container,
                             const pb::PodSandboxConfig& pod);
  Result<> start(const std::string& container_id);
  /// create and start.
  Result<std::string> run(const std::string& pod_id, const pb::ContainerConfig& container,
                          const pb::PodSandboxConfig& pod);
  Result<> stop(const std::string& container_id, std::int64_t grace_s = 10);
  Result<> remove(const std::string& container_id);
  Result<> stop_pod(const std::string& pod_id);
  Result<> remove_pod(const std::string& pod_id);
  /// stop_pod and remove_pod.
  Result<> end_pod(const std::string& pod_id);
  /// end_pod of every pod there is.
  Result<> end_all();
  Result<pb::ContainerStatus> status(const std::string& container_id);
  Result<pb::PodSandboxStatus> pod_status(const std::string& pod_id);
  Result<std::vector<pb::PodSandbox>> pods(const pb::PodSandboxFilter& filter = {});
  Result<std::vector<pb::Container>> containers(const pb::ContainerFilter& filter = {});
  Result<pb::ExecSyncResponse> exec(const std::string& container_id, std::vector<std::string> argv,
                                    std::int64_t timeout_s = 30);
  /// stdout of `sh -c script`; an exit code other than 0 is an error that quotes stderr.
  Result<std::string> shell(const std::string& container_id, const std::string& script);
  /// Its status once it has exited; kTimeout.
  Result<pb::ContainerStatus> wait_exited(const std::string& container_id,
                                          std::chrono::milliseconds timeout = kTimeout);

  static constexpr std::chrono::seconds kTimeout{60};

 private:
  template <class Stub, class Request, class Reply>
  static Result<Reply> call(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Reply*),
                            const Request& request, std::chrono::milliseconds timeout) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + timeout);
    context.set_wait_for_ready(false);
    Reply reply;
    const grpc::Status status = (stub.*method)(&context, request, &reply);
    if (!status.ok()) return fail(rpc::from_status(status));
    return reply;
  }

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<Images> images_;
};

}  // namespace berth::test
