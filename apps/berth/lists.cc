#include <cstdio>

#include "client.h"
#include "commands.h"
#include "table.h"

namespace berth::cli {
namespace {

std::string pod_ip(Client& client, const std::string& id) {
  pb::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(id);
  const auto status = client.call(client.runtime(), &pb::RuntimeService::Stub::PodSandboxStatus, request);
  if (!status || status->status().network().ip().empty()) return "-";  // gone meanwhile, or on the host's network
  return status->status().network().ip();
}

const char* state_word(pb::ContainerState state) {
  switch (state) {
    case pb::CONTAINER_CREATED:
      return "created";
    case pb::CONTAINER_RUNNING:
      return "running";
    case pb::CONTAINER_EXITED:
      return "exited";
    default:
      return "unknown";
  }
}

}  // namespace

Result<int> pods(Client& client, const ListCommand& command) {
  BERTH_ASSIGN(const auto list,
               client.call(client.runtime(), &pb::RuntimeService::Stub::ListPodSandbox, pb::ListPodSandboxRequest()),
               "list pods");
  if (command.json) {
    BERTH_TRY(print_json(list), "list pods");
    return 0;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& pod : list.items()) {
    if (command.quiet) {
      std::puts(pod.id().c_str());
      continue;
    }
    const bool ready = pod.state() == pb::SANDBOX_READY;
    rows.push_back({short_id(pod.id()), pod.metadata().namespace_() + "/" + pod.metadata().name(),
                    ready ? "ready" : "not ready", age(pod.created_at()), ready ? pod_ip(client, pod.id()) : "-",
                    pod.runtime_handler().empty() ? "(default)" : pod.runtime_handler()});
  }
  if (!command.quiet) print_table({"POD ID", "POD", "STATE", "CREATED", "IP", "RUNTIME"}, rows);
  return 0;
}

Result<int> ps(Client& client, const ListCommand& command) {
  pb::ListContainersRequest request;
  if (!command.all) request.mutable_filter()->mutable_state()->set_state(pb::CONTAINER_RUNNING);
  BERTH_ASSIGN(const auto list, client.call(client.runtime(), &pb::RuntimeService::Stub::ListContainers, request),
               "list containers");
  BERTH_ASSIGN(const auto all_pods,
               client.call(client.runtime(), &pb::RuntimeService::Stub::ListPodSandbox, pb::ListPodSandboxRequest()),
               "list pods");
  if (command.json) {
    BERTH_TRY(print_json(list), "list containers");
    return 0;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& container : list.containers()) {
    if (command.quiet) {
      std::puts(container.id().c_str());
      continue;
    }
    std::string pod_name = short_id(container.pod_sandbox_id());
    for (const auto& pod : all_pods.items()) {
      if (pod.id() == container.pod_sandbox_id()) pod_name = pod.metadata().namespace_() + "/" + pod.metadata().name();
    }
    const auto& image = container.image().user_specified_image();
    rows.push_back({short_id(container.id()), container.metadata().name(), pod_name,
                    image.empty() ? short_id(container.image_ref()) : image, state_word(container.state()),
                    age(container.created_at()), std::to_string(container.metadata().attempt())});
  }
  if (!command.quiet) print_table({"CONTAINER ID", "NAME", "POD", "IMAGE", "STATE", "CREATED", "ATTEMPT"}, rows);
  return 0;
}

Result<int> inspect(Client& client, const std::vector<std::string>& names) {
  for (const auto& name : names) {
    if (auto pod = find_pod(client, name)) {
      pb::PodSandboxStatusRequest request;
      request.set_pod_sandbox_id(pod->id());
      request.set_verbose(true);
      BERTH_ASSIGN(const auto status,
                   client.call(client.runtime(), &pb::RuntimeService::Stub::PodSandboxStatus, request), name);
      BERTH_TRY(print_json(status), name);
      continue;
    }
    if (auto container = find_container(client, name)) {
      pb::ContainerStatusRequest request;
      request.set_container_id(container->id());
      request.set_verbose(true);
      BERTH_ASSIGN(const auto status,
                   client.call(client.runtime(), &pb::RuntimeService::Stub::ContainerStatus, request), name);
      BERTH_TRY(print_json(status), name);
      continue;
    }
    pb::ImageStatusRequest request;
    request.mutable_image()->set_image(name);
    request.set_verbose(true);
    BERTH_ASSIGN(const auto image, client.call(client.images(), &pb::ImageService::Stub::ImageStatus, request), name);
    if (!image.has_image()) return fail(Code::kNotFound, "no pod, container or image \"" + name + "\"");
    BERTH_TRY(print_json(image), name);
  }
  return 0;
}

Result<int> version(Client& client) {
  std::printf("berth   %s\n", BERTH_VERSION);
  BERTH_ASSIGN(const auto reply,
               client.call(client.runtime(), &pb::RuntimeService::Stub::Version, pb::VersionRequest()),
               "ask the daemon");
  std::printf("berthd  %s (CRI %s)\n", reply.runtime_version().c_str(), reply.runtime_api_version().c_str());
  return 0;
}

}  // namespace berth::cli
