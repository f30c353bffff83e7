#include "cri_driver.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include "base/strings.h"
#include "os/file.h"

namespace berth::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Stub = pb::RuntimeService::Stub;

Micros since(Clock::time_point start) {
  return std::chrono::duration_cast<Micros>(Clock::now() - start);
}

pb::PodSandboxConfig pod_config(const Peer& peer, int index) {
  pb::PodSandboxConfig config;
  config.mutable_metadata()->set_name("bench-" + std::to_string(index));
  config.mutable_metadata()->set_namespace_("bench");
  config.mutable_metadata()->set_uid("uid-" + peer.name + "-" + std::to_string(index));
  config.set_hostname("bench");
  config.set_log_directory(peer.logs.empty() ? "/tmp/berth-bench-logs-" + peer.name : peer.logs);
  config.mutable_linux()->set_cgroup_parent(peer.cgroup + "/pods");
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(pb::CONTAINER);
  return config;
}

pb::ContainerConfig container_config(const std::string& image, const std::vector<std::string>& command,
                                     const std::string& volume) {
  pb::ContainerConfig config;
  config.mutable_metadata()->set_name("main");
  config.mutable_image()->set_image(image);
  config.add_command(command[0]);
  for (std::size_t i = 1; i < command.size(); ++i) config.add_args(command[i]);
  config.set_log_path("main.log");
  if (!volume.empty()) {
    auto& mount = *config.add_mounts();
    mount.set_host_path(volume);
    mount.set_container_path("/volume");
  }
  auto& security = *config.mutable_linux()->mutable_security_context();
  security.mutable_namespace_options()->set_pid(pb::CONTAINER);
  security.mutable_seccomp()->set_profile_type(pb::SecurityProfile::RuntimeDefault);
  for (const auto* path :
       {"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"}) {
    security.add_masked_paths(path);
  }
  for (const auto* path : {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}) {
    security.add_readonly_paths(path);
  }
  return config;
}

}  // namespace

Driver::Driver(Peer peer, std::string image) : peer_(std::move(peer)), image_(std::move(image)) {
  const auto channel = grpc::CreateChannel("unix:" + peer_.socket, grpc::InsecureChannelCredentials());
  runtime_ = pb::RuntimeService::NewStub(channel);
  images_ = pb::ImageService::NewStub(channel);
}

template <class Request, class Reply>
Result<Reply> Driver::call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Reply*),
                           const Request& request, const char* what) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(2));
  Reply reply;
  const auto status = (runtime_.get()->*method)(&context, request, &reply);
  if (!status.ok()) return fail(Code::kInternal, peer_.name + ": " + what + ": " + status.error_message());
  return reply;
}

Result<> Driver::pull() {
  grpc::ClientContext context;
  pb::PullImageRequest request;
  request.mutable_image()->set_image(image_);
  pb::PullImageResponse reply;
  const auto status = images_->PullImage(&context, request, &reply);
  if (!status.ok()) return fail(Code::kInternal, peer_.name + ": PullImage: " + status.error_message());
  return {};
}

Result<Pod> Driver::up(int index, PodTimes& times, const std::string& volume) {
  Pod pod;
  const auto config = pod_config(peer_, index);
  const auto begin = Clock::now();
  pb::RunPodSandboxRequest run;
  *run.mutable_config() = config;
  BERTH_ASSIGN(const auto sandbox, call(&Stub::RunPodSandbox, run, "RunPodSandbox"), "up");
  times.run = since(begin);
  pod.sandbox_id = sandbox.pod_sandbox_id();

  auto step = Clock::now();
  pb::CreateContainerRequest create;
  create.set_pod_sandbox_id(pod.sandbox_id);
  *create.mutable_config() = container_config(image_, command_, volume);
  *create.mutable_sandbox_config() = config;
  BERTH_ASSIGN(const auto created, call(&Stub::CreateContainer, create, "CreateContainer"), "up");
  times.create = since(step);
  pod.container_id = created.container_id();

  step = Clock::now();
  pb::StartContainerRequest start;
  start.set_container_id(pod.container_id);
  BERTH_TRY(call(&Stub::StartContainer, start, "StartContainer"), "up");
  times.start = since(step);
  times.up = since(begin);
  return pod;
}

Result<> Driver::down(const Pod& pod, PodTimes& times) {
  const auto begin = Clock::now();
  pb::StopContainerRequest stop;
  stop.set_container_id(pod.container_id);
  stop.set_timeout(0);
  BERTH_TRY(call(&Stub::StopContainer, stop, "StopContainer"), "down");
  pb::RemoveContainerRequest remove;
  remove.set_container_id(pod.container_id);
  BERTH_TRY(call(&Stub::RemoveContainer, remove, "RemoveContainer"), "down");
  pb::StopPodSandboxRequest stop_pod;
  stop_pod.set_pod_sandbox_id(pod.sandbox_id);
  BERTH_TRY(call(&Stub::StopPodSandbox, stop_pod, "StopPodSandbox"), "down");
  pb::RemovePodSandboxRequest remove_pod;
  remove_pod.set_pod_sandbox_id(pod.sandbox_id);
  BERTH_TRY(call(&Stub::RemovePodSandbox, remove_pod, "RemovePodSandbox"), "down");
  times.down = since(begin);
  return {};
}

Result<Micros> Driver::exec(const Pod& pod) {
  pb::ExecSyncRequest request;
  request.set_container_id(pod.container_id);
  request.add_cmd("/bin/true");
  request.set_timeout(30);
  const auto begin = Clock::now();
  BERTH_ASSIGN(const auto reply, call(&Stub::ExecSync, request, "ExecSync"), "exec");
  const auto took = since(begin);
  if (reply.exit_code() != 0) return fail(Code::kInternal, peer_.name + ": /bin/true ended with an error");
  return took;
}

Result<std::string> Driver::output(const Pod& pod, const std::vector<std::string>& argv) {
  pb::ExecSyncRequest request;
  request.set_container_id(pod.container_id);
  for (const auto& word : argv) request.add_cmd(word);
  request.set_timeout(110);
  BERTH_ASSIGN(const auto reply, call(&Stub::ExecSync, request, "ExecSync"), "exec");
  if (reply.exit_code() == 0) return reply.stdout();
  return fail(Code::kInternal, peer_.name + ": " + argv[0] + " ended with an error: " + reply.stderr());
}

Result<std::uint64_t> Driver::cpu_ns() const {
  BERTH_ASSIGN(const auto text, os::read_file("/sys/fs/cgroup/cpuacct" + peer_.cgroup + "/cpuacct.usage", 64),
               "CPU time");
  const auto value = parse_number<std::uint64_t>(trim(text));
  if (!value) return fail(Code::kInternal, "cpuacct.usage is no number");
  return *value;
}

Result<std::vector<Driver>> make_drivers(const std::vector<std::string>& peers, const std::string& image,
                                         std::size_t at_least) {
  std::vector<Driver> drivers;
  for (const auto& text : peers) {
    const auto parts = split(text, '=');
    if (parts.size() != 3) return fail(Code::kInvalid, "--peer wants NAME=SOCKET=CGROUP, not " + text);
    drivers.emplace_back(Peer{std::string(parts[0]), std::string(parts[1]), std::string(parts[2])}, image);
  }
  if (drivers.size() < at_least) return fail(Code::kInvalid, std::to_string(at_least) + " --peer are needed");
  return drivers;
}

}  // namespace berth::bench
