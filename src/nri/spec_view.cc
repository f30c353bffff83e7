#include "nri/spec_view.h"

#include <string_view>

#include "spec/own_options.h"

namespace berth::nri {
namespace {

template <class From, class To>
void set(const std::optional<From>& from, To* (api::LinuxMemory::*target)(), api::LinuxMemory& memory) {
  if (from) (memory.*target)()->set_value(*from);
}
template <class From, class To>
void set(const std::optional<From>& from, To* (api::LinuxCPU::*target)(), api::LinuxCPU& cpu) {
  if (from) (cpu.*target)()->set_value(*from);
}

void describe_hooks(const std::vector<spec::Hook>& from, google::protobuf::RepeatedPtrField<api::Hook>& to) {
  for (const auto& hook : from) {
    auto& out = *to.Add();
    out.set_path(hook.path);
    *out.mutable_args() = {hook.args.begin(), hook.args.end()};
    *out.mutable_env() = {hook.env.begin(), hook.env.end()};
    if (hook.timeout) out.mutable_timeout()->set_value(*hook.timeout);
  }
}

void describe_seccomp(const spec::Seccomp& from, api::LinuxSeccomp& to) {
  to.set_default_action(from.default_action);
  if (from.default_errno_ret) to.mutable_default_errno()->set_value(*from.default_errno_ret);
  *to.mutable_architectures() = {from.architectures.begin(), from.architectures.end()};
  *to.mutable_flags() = {from.flags.begin(), from.flags.end()};
  to.set_listener_path(from.listener_path);
  to.set_listener_metadata(from.listener_metadata);
  for (const auto& rule : from.syscalls) {
    auto& out = *to.add_syscalls();
    *out.mutable_names() = {rule.names.begin(), rule.names.end()};
    out.set_action(rule.action);
    if (rule.errno_ret) out.mutable_errno_ret()->set_value(*rule.errno_ret);
    for (const auto& arg : rule.args) {
      auto& condition = *out.add_args();
      condition.set_index(arg.index);
      condition.set_value(arg.value);
      condition.set_value_two(arg.value_two);
      condition.set_op(arg.op);
    }
  }
}

void describe_process(const spec::Process& process, api::Container& container) {
  *container.mutable_args() = {process.args.begin(), process.args.end()};
  *container.mutable_env() = {process.env.begin(), process.env.end()};
  for (const auto& limit : process.rlimits) {
    auto& out = *container.add_rlimits();
    out.set_type(limit.type);
    out.set_hard(limit.hard);
    out.set_soft(limit.soft);
  }
  auto& user = *container.mutable_user();
  user.set_uid(process.user.uid);
  user.set_gid(process.user.gid);
  *user.mutable_additional_gids() = {process.user.additional_gids.begin(), process.user.additional_gids.end()};
  auto& task = *container.mutable_linux();
  if (process.oom_score_adj) task.mutable_oom_score_adj()->set_value(*process.oom_score_adj);
  if (process.io_priority) {
    api::IOPrioClass io_class = api::IOPRIO_CLASS_NONE;
    static_cast<void>(api::IOPrioClass_Parse(process.io_priority->io_class, &io_class));
    task.mutable_io_priority()->set_class_(io_class);
    task.mutable_io_priority()->set_priority(process.io_priority->priority);
  }
  if (process.scheduler) {
    api::LinuxSchedulerPolicy policy = api::LINUX_SCHED_NONE;
    static_cast<void>(api::LinuxSchedulerPolicy_Parse("LINUX_" + process.scheduler->policy, &policy));
    auto& out = *task.mutable_scheduler();
    out.set_policy(policy);
    out.set_nice(process.scheduler->nice);
    out.set_priority(process.scheduler->priority);
    out.set_runtime(process.scheduler->runtime);
    out.set_deadline(process.scheduler->deadline);
    out.set_period(process.scheduler->period);
    for (const auto& word : process.scheduler->flags) {
      api::LinuxSchedulerFlag flag{};
      if (api::LinuxSchedulerFlag_Parse("LINUX_" + word, &flag)) out.add_flags(flag);
    }
  }
}

void describe_linux(const spec::Linux& from, api::LinuxContainer& to) {
  for (const auto& space : from.namespaces) {
    auto& out = *to.add_namespaces();
    out.set_type(std::string(spec::namespace_name(space.type)));
    out.set_path(space.path);
  }
  for (const auto& device : from.devices) {
    auto& out = *to.add_devices();
    out.set_path(device.path);
    out.set_type(device.type);
    out.set_major(device.major);
    out.set_minor(device.minor);
    if (device.file_mode) out.mutable_file_mode()->set_value(*device.file_mode);
    if (device.uid) out.mutable_uid()->set_value(*device.uid);
    if (device.gid) out.mutable_gid()->set_value(*device.gid);
  }
  if (from.resources) *to.mutable_resources() = describe(*from.resources);
  to.set_cgroups_path(from.cgroups_path);
  if (from.seccomp) describe_seccomp(*from.seccomp, *to.mutable_seccomp_policy());
  for (const auto& [name, value] : from.sysctl) (*to.mutable_sysctl())[name] = value;
  for (const auto& [name, device] : from.net_devices) (*to.mutable_net_devices())[name].set_name(device.name);
  if (from.intel_rdt) {
    auto& rdt = *to.mutable_rdt();
    if (!from.intel_rdt->clos_id.empty()) rdt.mutable_clos_id()->set_value(from.intel_rdt->clos_id);
    for (const auto& line : from.intel_rdt->schemata) rdt.mutable_schemata()->add_value(line);
    if (from.intel_rdt->enable_monitoring) rdt.mutable_enable_monitoring()->set_value(true);
  }
}

}  // namespace

api::LinuxResources describe(const spec::Resources& resources) {
  api::LinuxResources out;
  if (resources.memory) {
    auto& memory = *out.mutable_memory();
    set(resources.memory->limit, &api::LinuxMemory::mutable_limit, memory);
    set(resources.memory->reservation, &api::LinuxMemory::mutable_reservation, memory);
    set(resources.memory->swap, &api::LinuxMemory::mutable_swap, memory);
    set(resources.memory->kernel, &api::LinuxMemory::mutable_kernel, memory);
    set(resources.memory->kernel_tcp, &api::LinuxMemory::mutable_kernel_tcp, memory);
    set(resources.memory->swappiness, &api::LinuxMemory::mutable_swappiness, memory);
    set(resources.memory->disable_oom_killer, &api::LinuxMemory::mutable_disable_oom_killer, memory);
    set(resources.memory->use_hierarchy, &api::LinuxMemory::mutable_use_hierarchy, memory);
  }
  if (resources.cpu) {
    auto& cpu = *out.mutable_cpu();
    set(resources.cpu->shares, &api::LinuxCPU::mutable_shares, cpu);
    set(resources.cpu->quota, &api::LinuxCPU::mutable_quota, cpu);
    set(resources.cpu->period, &api::LinuxCPU::mutable_period, cpu);
    set(resources.cpu->realtime_runtime, &api::LinuxCPU::mutable_realtime_runtime, cpu);
    set(resources.cpu->realtime_period, &api::LinuxCPU::mutable_realtime_period, cpu);
    cpu.set_cpus(resources.cpu->cpus);
    cpu.set_mems(resources.cpu->mems);
  }
  if (resources.pids && resources.pids->limit) out.mutable_pids()->set_limit(*resources.pids->limit);
  for (const auto& limit : resources.hugepage_limits) {
    auto& page = *out.add_hugepage_limits();
    page.set_page_size(limit.page_size);
    page.set_limit(limit.limit);
  }
  for (const auto& [file, value] : resources.unified) (*out.mutable_unified())[file] = value;
  for (const auto& rule : resources.devices) {
    auto& device = *out.add_devices();
    device.set_allow(rule.allow);
    device.set_type(rule.type);
    if (rule.major) device.mutable_major()->set_value(*rule.major);
    if (rule.minor) device.mutable_minor()->set_value(*rule.minor);
    device.set_access(rule.access);
  }
  return out;
}

void describe(const spec::Spec& spec, api::Container& container) {
  if (spec.process) describe_process(*spec.process, container);
  for (const auto& mount : spec.mounts) {
    auto& out = *container.add_mounts();
    out.set_destination(mount.destination);
    out.set_type(mount.type);
    out.set_source(mount.source);
    for (const auto& option : mount.options) {
      if (!spec::is_own_option(option)) out.add_options(option);
    }
  }
  if (spec.hooks) {
    auto& hooks = *container.mutable_hooks();
    describe_hooks(spec.hooks->prestart, *hooks.mutable_prestart());
    describe_hooks(spec.hooks->create_runtime, *hooks.mutable_create_runtime());
    describe_hooks(spec.hooks->create_container, *hooks.mutable_create_container());
    describe_hooks(spec.hooks->start_container, *hooks.mutable_start_container());
    describe_hooks(spec.hooks->poststart, *hooks.mutable_poststart());
    describe_hooks(spec.hooks->poststop, *hooks.mutable_poststop());
  }
  if (spec.linux) describe_linux(*spec.linux, *container.mutable_linux());
}

}  // namespace berth::nri
