#include "cri_client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include "base/ids.h"
#include "wait.h"

namespace berth::test {
namespace {

constexpr std::chrono::minutes kLong{3};

}  // namespace

CriClient::CriClient(const std::string& socket_path) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  // A channel of its own: gRPC would hand one out again that remembers a daemon which has been killed.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 100);
  channel_ = grpc::CreateCustomChannel("unix:" + socket_path, grpc::InsecureChannelCredentials(), arguments);
  runtime_ = pb::RuntimeService::NewStub(channel_);
  images_ = pb::ImageService::NewStub(channel_);
}

Result<std::string> CriClient::pull(const std::string& image) {
  pb::PullImageRequest request;
  request.mutable_image()->set_image(image);
  BERTH_ASSIGN(const auto reply, call(&Images::PullImage, request, kLong), "pull " + image);
  return reply.image_ref();
}

Result<std::string> CriClient::run_pod(const pb::PodSandboxConfig& config, const std::string& handler) {
  pb::RunPodSandboxRequest request;
  *request.mutable_config() = config;
  request.set_runtime_handler(handler);
  BERTH_ASSIGN(const auto reply, call(&Runtime::RunPodSandbox, request, kLong), "run pod " + config.metadata().name());
  return reply.pod_sandbox_id();
}

Result<std::string> CriClient::create(const std::string& pod_id, const pb::ContainerConfig& container,
                                      const pb::PodSandboxConfig& pod) {
  pb::CreateContainerRequest request;
  request.set_pod_sandbox_id(pod_id);
  *request.mutable_config() = container;
  *request.mutable_sandbox_config() = pod;
  BERTH_ASSIGN(const auto reply, call(&Runtime::CreateContainer, request, kLong),
               "create container " + container.metadata().name());
  return reply.container_id();
}

Result<> CriClient::start(const std::string& container_id) {
  pb::StartContainerRequest request;
  request.set_container_id(container_id);
  BERTH_TRY(call(&Runtime::StartContainer, request, kLong), "start container");
  return {};
}

Result<std::string> CriClient::run(const std::string& pod_id, const pb::ContainerConfig& container,
                                   const pb::PodSandboxConfig& pod) {
  BERTH_ASSIGN(auto id, create(pod_id, container, pod), "run");
  BERTH_TRY(start(id), "run");
  return id;
}

Result<> CriClient::stop(const std::string& container_id, std::int64_t grace_s) {
  pb::StopContainerRequest request;
  request.set_container_id(container_id);
  request.set_timeout(grace_s);
  BERTH_TRY(call(&Runtime::StopContainer, request, kLong), "stop container");
  return {};
}

Result<> CriClient::remove(const std::string& container_id) {
  pb::RemoveContainerRequest request;
  request.set_container_id(container_id);
  BERTH_TRY(call(&Runtime::RemoveContainer, request, kLong), "remove container");
  return {};
}

Result<> CriClient::stop_pod(const std::string& pod_id) {
  pb::StopPodSandboxRequest request;
  request.set_pod_sandbox_id(pod_id);
  BERTH_TRY(call(&Runtime::StopPodSandbox, request, kLong), "stop pod");
  return {};
}

Result<> CriClient::remove_pod(const std::string& pod_id) {
  pb::RemovePodSandboxRequest request;
  request.set_pod_sandbox_id(pod_id);
  BERTH_TRY(call(&Runtime::RemovePodSandbox, request, kLong), "remove pod");
  return {};
}

Result<> CriClient::end_pod(const std::string& pod_id) {
  BERTH_TRY(stop_pod(pod_id), pod_id);
  return remove_pod(pod_id);
}

Result<> CriClient::end_all() {
  BERTH_ASSIGN(const auto list, pods(), "end all pods");
  for (const auto& pod : list) {
    BERTH_TRY(end_pod(pod.id()), "end all pods");
  }
  return {};
}

Result<pb::ContainerStatus> CriClient::status(const std::string& container_id) {
  pb::ContainerStatusRequest request;
  request.set_container_id(container_id);
  BERTH_ASSIGN(auto reply, call(&Runtime::ContainerStatus, request), "container status");
  return std::move(*reply.mutable_status());
}

Result<pb::PodSandboxStatus> CriClient::pod_status(const std::string& pod_id) {
  pb::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(pod_id);
  BERTH_ASSIGN(auto reply, call(&Runtime::PodSandboxStatus, request), "pod status");
  return std::move(*reply.mutable_status());
}

Result<std::vector<pb::PodSandbox>> CriClient::pods(const pb::PodSandboxFilter& filter) {
  pb::ListPodSandboxRequest request;
  *request.mutable_filter() = filter;
  BERTH_ASSIGN(const auto reply, call(&Runtime::ListPodSandbox, request), "list pods");
  return std::vector<pb::PodSandbox>(reply.items().begin(), reply.items().end());
}

Result<std::vector<pb::Container>> CriClient::containers(const pb::ContainerFilter& filter) {
  pb::ListContainersRequest request;
  *request.mutable_filter() = filter;
  BERTH_ASSIGN(const auto reply, call(&Runtime::ListContainers, request), "list containers");
  return std::vector<pb::Container>(reply.containers().begin(), reply.containers().end());
}

Result<pb::ExecSyncResponse> CriClient::exec(const std::string& container_id, std::vector<std::string> argv,
                                             std::int64_t timeout_s) {
  pb::ExecSyncRequest request;
  request.set_container_id(container_id);
  for (auto& arg : argv) request.add_cmd(std::move(arg));
  request.set_timeout(timeout_s);
  return call(&Runtime::ExecSync, request, kLong);
}

Result<std::string> CriClient::shell(const std::string& container_id, const std::string& script) {
  BERTH_ASSIGN(const auto reply, exec(container_id, {"/bin/sh", "-c", script}), "exec \"" + script + "\"");
  if (reply.exit_code() == 0) return reply.stdout();
  return fail(Code::kInternal, "\"" + script + "\" ended with code " + std::to_string(reply.exit_code()) + ": " +
                                   reply.stdout() + reply.stderr());
}

Result<pb::ContainerStatus> CriClient::wait_exited(const std::string& container_id, std::chrono::milliseconds timeout) {
  Result<pb::ContainerStatus> last = fail(Code::kInternal, "never asked");
  const bool exited = wait_until(timeout, [&] {
    last = status(container_id);
    return last && last->state() == pb::CONTAINER_EXITED;
  });
  if (!exited && last) return fail(Code::kTimeout, "container " + container_id + " does not exit");
  return last;
}

}  // namespace berth::test
