#include <cstdio>

#include "arguments.h"
#include "base/ids.h"
#include "base/rollback.h"
#include "base/strings.h"
#include "client.h"
#include "commands.h"
#include "lifecycle.h"
#include "os/file.h"

namespace berth::cli {
namespace {

using Runtime = pb::RuntimeService::Stub;
using Images = pb::ImageService::Stub;

// "localhost:5000/team/web:1@sha256:..." becomes "web".
std::string base_name(const std::string& image) {
  std::string name = image.substr(0, image.find('@'));
  if (const auto slash = name.rfind('/'); slash != std::string::npos) name = name.substr(slash + 1);
  name = to_lower(name.substr(0, name.find(':')));
  return name.empty() ? "pod" : name;
}

Result<> have_image(Client& client, const RunCommand& command) {
  if (command.pull != "always") {
    pb::ImageStatusRequest look;
    look.mutable_image()->set_image(command.image);
    BERTH_ASSIGN(const auto found, client.call(client.images(), &Images::ImageStatus, look), "look up the image");
    if (found.has_image()) return {};
    if (command.pull == "never") {
      return fail(Code::kNotFound, "image " + command.image + " is not here, and --pull never forbids to fetch it");
    }
  }
  std::fprintf(stderr, "pulling %s\n", command.image.c_str());
  PullCommand fetch;
  fetch.image = command.image;
  BERTH_TRY(fetch_image(client, fetch), "run");
  return {};
}

Result<pb::PodSandboxConfig> pod_config(const RunCommand& command) {
  pb::PodSandboxConfig config;
  auto& metadata = *config.mutable_metadata();
  metadata.set_name(command.name.empty() ? base_name(command.image) + "-" + random_hex(2) : command.name);
  metadata.set_namespace_(command.pod_namespace);
  metadata.set_uid(random_hex(16));
  config.set_hostname(command.host_network ? "" : metadata.name());
  config.set_log_directory(command.log_dir + "/" + metadata.namespace_() + "_" + metadata.name() + "_" +
                           metadata.uid().substr(0, 8));
  (*config.mutable_annotations())[std::string(kLogDirectoryAnnotation)] = config.log_directory();
  for (const auto& text : command.ports) {
    BERTH_ASSIGN(*config.add_port_mappings(), parse_port(text), "--publish");
  }
  auto& security = *config.mutable_linux()->mutable_security_context();
  security.set_privileged(command.privileged);
  if (command.host_network) security.mutable_namespace_options()->set_network(pb::NODE);
  security.mutable_namespace_options()->set_pid(pb::CONTAINER);
  return config;
}

Result<pb::ContainerConfig> container_config(const RunCommand& command, const pb::PodSandboxConfig& pod) {
  pb::ContainerConfig config;
  config.mutable_metadata()->set_name(pod.metadata().name());
  config.mutable_image()->set_image(command.image);
  config.mutable_image()->set_user_specified_image(command.image);
  config.set_log_path(pod.metadata().name() + ".log");
  config.set_working_dir(command.workdir);
  if (!command.entrypoint.empty()) config.add_command(command.entrypoint);
  for (const auto& arg : command.args) config.add_args(arg);
  for (const auto& text : command.env) {
    BERTH_ASSIGN(*config.add_envs(), parse_env(text), "--env");
  }
  for (const auto& text : command.volumes) {
    BERTH_ASSIGN(*config.add_mounts(), parse_volume(text), "--volume");
  }
  auto& linux_config = *config.mutable_linux();
  if (!command.memory.empty()) {
    BERTH_ASSIGN(const auto bytes, parse_bytes(command.memory), "--memory");
    linux_config.mutable_resources()->set_memory_limit_in_bytes(bytes);
  }
  if (command.cpus > 0) {
    linux_config.mutable_resources()->set_cpu_period(100'000);
    linux_config.mutable_resources()->set_cpu_quota(static_cast<std::int64_t>(command.cpus * 100'000));
  }
  auto& security = *linux_config.mutable_security_context();
  security.set_privileged(command.privileged);
  security.set_readonly_rootfs(command.read_only);
  security.mutable_namespace_options()->set_network(command.host_network ? pb::NODE : pb::POD);
  security.mutable_namespace_options()->set_pid(pb::CONTAINER);
  security.mutable_seccomp()->set_profile_type(command.privileged ? pb::SecurityProfile::Unconfined
                                                                  : pb::SecurityProfile::RuntimeDefault);
  if (!command.user.empty()) {
    if (const auto uid = parse_number<std::int64_t>(command.user)) {
      security.mutable_run_as_user()->set_value(*uid);
    } else {
      security.set_run_as_username(command.user);
    }
  }
  return config;
}

}  // namespace

Result<int> run(Client& client, const RunCommand& command) {
  if (command.pull != "always" && command.pull != "missing" && command.pull != "never") {
    return fail(Code::kInvalid, "--pull takes always, missing or never");
  }
  BERTH_ASSIGN(const auto pod, pod_config(command), "run");
  BERTH_ASSIGN(const auto config, container_config(command, pod), "run");
  BERTH_TRY(have_image(client, command), "run");

  pb::RunPodSandboxRequest sandbox;
  *sandbox.mutable_config() = pod;
  sandbox.set_runtime_handler(command.runtime);
  BERTH_ASSIGN(const auto started_pod,
               client.call(client.runtime(), &Runtime::RunPodSandbox, sandbox, std::chrono::minutes(2)),
               "start the pod");
  Rollback undo;
  undo.add("remove the pod", [&client, id = started_pod.pod_sandbox_id()] { return remove_pod(client, id); });

  pb::CreateContainerRequest create;
  create.set_pod_sandbox_id(started_pod.pod_sandbox_id());
  *create.mutable_config() = config;
  *create.mutable_sandbox_config() = pod;
  BERTH_ASSIGN(const auto created,
               client.call(client.runtime(), &Runtime::CreateContainer, create, std::chrono::minutes(2)),
               "create the container");
  pb::StartContainerRequest start;
  start.set_container_id(created.container_id());
  BERTH_TRY(client.call(client.runtime(), &Runtime::StartContainer, start, std::chrono::minutes(2)),
            "start the container");
  if (!command.remove) undo.commit();  // with --rm the pod goes when its output has been shown
  if (!command.follow && !command.remove) {
    std::printf("pod        %s (%s)\ncontainer  %s\n", pod.metadata().name().c_str(),
                started_pod.pod_sandbox_id().c_str(), created.container_id().c_str());
    return 0;
  }
  LogsCommand follow;
  follow.container = created.container_id();
  follow.follow = true;
  BERTH_TRY(logs(client, follow), "follow the log");
  return exit_code(client, created.container_id());
}

}  // namespace berth::cli
