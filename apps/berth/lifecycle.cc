#include "lifecycle.h"

#include <cstdio>

#include "base/strings.h"
#include "client.h"
#include "commands.h"
#include "os/file.h"

namespace berth::cli {
namespace {

using Runtime = pb::RuntimeService::Stub;
// Above any grace period that the calls below ask for.
constexpr std::chrono::minutes kPatience{5};

Result<> stop_pod(Client& client, const std::string& id) {
  pb::StopPodSandboxRequest request;
  request.set_pod_sandbox_id(id);
  BERTH_TRY(client.call(client.runtime(), &Runtime::StopPodSandbox, request, kPatience), "stop the pod");
  return {};
}

Result<> stop_container(Client& client, const std::string& id, std::int64_t timeout_s) {
  pb::StopContainerRequest request;
  request.set_container_id(id);
  request.set_timeout(timeout_s);
  BERTH_TRY(client.call(client.runtime(), &Runtime::StopContainer, request, kPatience), "stop the container");
  return {};
}

Result<> stop_containers_of(Client& client, const std::string& pod_id, std::int64_t timeout_s) {
  pb::ListContainersRequest request;
  request.mutable_filter()->set_pod_sandbox_id(pod_id);
  BERTH_ASSIGN(const auto list, client.call(client.runtime(), &Runtime::ListContainers, request), "list containers");
  for (const auto& container : list.containers()) {
    if (container.state() == pb::CONTAINER_RUNNING) {
      BERTH_TRY(stop_container(client, container.id(), timeout_s), container.metadata().name());
    }
  }
  return {};
}

}  // namespace

Result<> remove_pod(Client& client, const std::string& pod_id) {
  pb::PodSandboxStatusRequest look;
  look.set_pod_sandbox_id(pod_id);
  std::string log_dir;
  if (const auto status = client.call(client.runtime(), &Runtime::PodSandboxStatus, look)) {
    const auto& annotations = status->status().annotations();
    if (const auto found = annotations.find(std::string(kLogDirectoryAnnotation)); found != annotations.end()) {
      log_dir = found->second;
    }
  }
  BERTH_TRY(stop_pod(client, pod_id), pod_id);
  pb::RemovePodSandboxRequest request;
  request.set_pod_sandbox_id(pod_id);
  BERTH_TRY(client.call(client.runtime(), &Runtime::RemovePodSandbox, request, kPatience), "remove the pod");
  if (!log_dir.empty()) BERTH_TRY(os::remove_tree(log_dir), "remove the pod's logs");
  return {};
}

Result<int> exit_code(Client& client, const std::string& container_id) {
  pb::ContainerStatusRequest request;
  request.set_container_id(container_id);
  BERTH_ASSIGN(const auto status, client.call(client.runtime(), &Runtime::ContainerStatus, request), "exit code");
  return status.status().exit_code();
}

Result<int> stop(Client& client, const StopCommand& command) {
  for (const auto& name : command.names) {
    if (const auto pod = find_pod(client, name)) {
      BERTH_TRY(stop_containers_of(client, pod->id(), command.timeout_s), name);
      BERTH_TRY(stop_pod(client, pod->id()), name);
    } else {
      BERTH_ASSIGN(const auto container, find_container(client, name), "stop");
      BERTH_TRY(stop_container(client, container.id(), command.timeout_s), name);
    }
    std::puts(name.c_str());
  }
  return 0;
}

Result<int> remove(Client& client, const RemoveCommand& command) {
  for (const auto& name : command.names) {
    if (const auto pod = find_pod(client, name)) {
      if (pod->state() == pb::SANDBOX_READY && !command.force) {
        return fail(Code::kPrecondition, "pod \"" + name + "\" is running: stop it first, or use --force");
      }
      BERTH_TRY(remove_pod(client, pod->id()), name);
    } else {
      BERTH_ASSIGN(const auto container, find_container(client, name), "remove");
      if (container.state() == pb::CONTAINER_RUNNING && !command.force) {
        return fail(Code::kPrecondition, "container \"" + name + "\" is running: stop it first, or use --force");
      }
      pb::RemoveContainerRequest request;
      request.set_container_id(container.id());
      BERTH_TRY(client.call(client.runtime(), &Runtime::RemoveContainer, request, kPatience), name);
    }
    std::puts(name.c_str());
  }
  return 0;
}

Result<int> exec(Client& client, const ExecCommand& command) {
  if (command.args.empty()) return fail(Code::kInvalid, "exec: no command given");
  BERTH_ASSIGN(const auto container, find_container(client, command.container), "exec");
  pb::ExecSyncRequest request;
  request.set_container_id(container.id());
  request.set_timeout(command.timeout_s);
  for (const auto& arg : command.args) request.add_cmd(arg);
  BERTH_ASSIGN(const auto reply,
               client.call(client.runtime(), &Runtime::ExecSync, request, std::chrono::milliseconds(0)), "exec");
  std::fwrite(reply.stdout().data(), 1, reply.stdout().size(), ::stdout);
  std::fwrite(reply.stderr().data(), 1, reply.stderr().size(), ::stderr);
  return reply.exit_code();
}

}  // namespace berth::cli
