#include "cri/plugin_view.h"

#include "cri/spec_builder.h"
#include "nri/spec_view.h"

namespace berth::cri {

namespace {

void add_namespace(const SandboxRecord& record, const char* type, const char* file, nri_api::LinuxPodSandbox& into) {
  auto& space = *into.add_namespaces();
  space.set_type(type);
  space.set_path("/proc/" + std::to_string(record.shim_pid) + "/ns/" + file);
}

nri_api::ContainerState state_of(const ContainerRecord& record) {
  switch (record.phase) {
    case ContainerPhase::kCreating:
    case ContainerPhase::kCreated:
    case ContainerPhase::kStarting:
      return nri_api::CONTAINER_CREATED;
    case ContainerPhase::kRunning:
      return nri_api::CONTAINER_RUNNING;
    default:
      return nri_api::CONTAINER_STOPPED;
  }
}

void set_seccomp_profile(const ContainerRecord& record, nri_api::LinuxContainer& into) {
  const auto choice = seccomp_choice(record.config.linux().security_context());
  if (!choice) return;
  auto& profile = *into.mutable_seccomp_profile();
  profile.set_localhost_ref(choice->localhost_path);
  if (choice->type == pb::SecurityProfile::RuntimeDefault)
    profile.set_profile_type(nri_api::SecurityProfile::RUNTIME_DEFAULT);
  if (choice->type == pb::SecurityProfile::Unconfined) profile.set_profile_type(nri_api::SecurityProfile::UNCONFINED);
  if (choice->type == pb::SecurityProfile::Localhost) profile.set_profile_type(nri_api::SecurityProfile::LOCALHOST);
}

void set_image(const ContainerRecord& record, nri_api::Image& into) {
  const auto& asked = record.config.image();
  into.set_name(asked.user_specified_image().empty() ? asked.image() : asked.user_specified_image());
  if (const auto at = record.image_ref.find('@'); at != std::string::npos)
    into.set_digest(record.image_ref.substr(at + 1));
  into.set_config_digest(record.image_id);
}

}  // namespace

nri_api::PodSandbox plugin_view(const SandboxRecord& record) {
  nri_api::PodSandbox pod;
  const auto& metadata = record.config.metadata();
  pod.set_id(record.id);
  pod.set_name(metadata.name());
  pod.set_uid(metadata.uid());
  pod.set_namespace_(metadata.namespace_());
  for (const auto& [key, value] : record.config.labels()) (*pod.mutable_labels())[key] = value;
  for (const auto& [key, value] : record.config.annotations()) (*pod.mutable_annotations())[key] = value;
  pod.set_runtime_handler(record.handler);
  pod.set_pid(static_cast<std::uint32_t>(record.shim_pid));
  for (const auto& ip : record.network.ips) pod.add_ips(ip);
  auto& linux_part = *pod.mutable_linux();
  linux_part.set_cgroup_parent(record.systemd_cgroups ? unit_of(record.cgroup_parent) : record.cgroup_parent);
  if (record.config.linux().has_overhead()) {
    *linux_part.mutable_pod_overhead() = plugin_view(record.config.linux().overhead());
  }
  if (record.config.linux().has_resources()) {
    *linux_part.mutable_pod_resources() = plugin_view(record.config.linux().resources());
  }
  if (record.shim_pid > 0) {
    if (!record.host_network) add_namespace(record, "network", "net", linux_part);
    add_namespace(record, "ipc", "ipc", linux_part);
    add_namespace(record, "uts", "uts", linux_part);
  }
  return pod;
}

nri_api::Container plugin_view(const ContainerRecord& record, const spec::Spec* spec) {
  nri_api::Container container;
  container.set_id(record.id);
  container.set_pod_sandbox_id(record.sandbox_id);
  container.set_name(record.config.metadata().name());
  container.set_state(state_of(record));
  for (const auto& [key, value] : record.config.labels()) (*container.mutable_labels())[key] = value;
  for (const auto& [key, value] : record.config.annotations()) (*container.mutable_annotations())[key] = value;
  if (spec != nullptr) {
    nri::describe(*spec, container);
    for (const auto& [key, value] : spec->annotations) (*container.mutable_annotations())[key] = value;
  } else {
    *container.mutable_linux()->mutable_resources() = plugin_view(record.resources);
    container.mutable_linux()->set_cgroups_path(shown_cgroups_path(record.cgroups_path, record.id));
  }
  set_seccomp_profile(record, *container.mutable_linux());
  container.set_pid(static_cast<std::uint32_t>(record.pid));
  container.set_created_at(record.created_at_ns);
  container.set_started_at(record.started_at_ns);
  container.set_finished_at(record.finished_at_ns);
  container.set_exit_code(record.exit_code);
  container.set_status_reason(record.reason);
  container.set_status_message(record.message);
  for (const auto& device : record.config.cdi_devices()) container.add_cdi_devices()->set_name(device.name());
  set_image(record, *container.mutable_image());
  return container;
}

nri_api::LinuxResources plugin_view(const pb::LinuxContainerResources& limits) {
  nri_api::LinuxResources out;
  if (limits.memory_limit_in_bytes() != 0)
    out.mutable_memory()->mutable_limit()->set_value(limits.memory_limit_in_bytes());
  if (limits.memory_swap_limit_in_bytes() != 0) {
    out.mutable_memory()->mutable_swap()->set_value(limits.memory_swap_limit_in_bytes());
  }
  auto& cpu = *out.mutable_cpu();
  if (limits.cpu_shares() > 0) cpu.mutable_shares()->set_value(static_cast<std::uint64_t>(limits.cpu_shares()));
  if (limits.cpu_quota() != 0) cpu.mutable_quota()->set_value(limits.cpu_quota());
  if (limits.cpu_period() > 0) cpu.mutable_period()->set_value(static_cast<std::uint64_t>(limits.cpu_period()));
  cpu.set_cpus(limits.cpuset_cpus());
  cpu.set_mems(limits.cpuset_mems());
  for (const auto& page : limits.hugepage_limits()) {
    auto& limit = *out.add_hugepage_limits();
    limit.set_page_size(page.page_size());
    limit.set_limit(page.limit());
  }
  for (const auto& [file, value] : limits.unified()) (*out.mutable_unified())[file] = value;
  return out;
}

void merge_limits(const nri_api::LinuxResources& from, pb::LinuxContainerResources& into) {
  const auto& memory = from.memory();
  if (memory.limit().value() != 0) into.set_memory_limit_in_bytes(memory.limit().value());
  if (memory.swap().value() != 0) into.set_memory_swap_limit_in_bytes(memory.swap().value());
  const auto& cpu = from.cpu();
  if (cpu.shares().value() != 0) into.set_cpu_shares(static_cast<std::int64_t>(cpu.shares().value()));
  if (cpu.quota().value() != 0) into.set_cpu_quota(cpu.quota().value());
  if (cpu.period().value() != 0) into.set_cpu_period(static_cast<std::int64_t>(cpu.period().value()));
  if (!cpu.cpus().empty()) into.set_cpuset_cpus(cpu.cpus());
  if (!cpu.mems().empty()) into.set_cpuset_mems(cpu.mems());
  for (const auto& page : from.hugepage_limits()) {
    auto* limit = static_cast<pb::HugepageLimit*>(nullptr);
    for (auto& known : *into.mutable_hugepage_limits()) {
      if (known.page_size() == page.page_size()) limit = &known;
    }
    if (limit == nullptr) limit = into.add_hugepage_limits();
    limit->set_page_size(page.page_size());
    limit->set_limit(page.limit());
  }
  for (const auto& [file, value] : from.unified()) (*into.mutable_unified())[file] = value;
}

}  // namespace berth::cri
