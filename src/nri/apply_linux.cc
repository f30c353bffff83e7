#include "nri/apply_linux.h"

#include <algorithm>

#include "base/strings.h"

namespace berth::nri {
namespace {

std::string blame(const LinuxAdjustment& adjust, api::Field field, std::string_view key = {}) {
  return plugin_field(adjust.owners, adjust.container, field, key);
}

spec::DeviceRule rule_for(const api::LinuxDevice& device) {
  spec::DeviceRule rule;
  rule.allow = true;
  rule.type = device.type();
  rule.major = device.major();
  rule.minor = device.minor();
  // A node says who may do what by its mode; without one it is for all.
  rule.access = "rwm";
  if (device.has_file_mode()) {
    const auto mode = device.file_mode().value();
    rule.access = std::string((mode & 0444) != 0 ? "r" : "") + ((mode & 0222) != 0 ? "w" : "") + "m";
  }
  return rule;
}

Result<> apply_devices(const LinuxAdjustment& adjust, spec::Linux& into) {
  for (const auto& asked : adjust.asked.devices()) {
    const std::string key = clean_key(asked.path());
    std::string_view path = key;
    const bool removed = marked_for_removal(path);
    std::erase_if(into.devices, [&](const spec::Device& other) { return other.path == path; });
    if (removed) continue;
    if (!path.starts_with('/') ||
        (asked.type() != "c" && asked.type() != "b" && asked.type() != "u" && asked.type() != "p")) {
      return fail(Code::kInvalid, blame(adjust, api::Devices, path) + ": no absolute path or no type of a device");
    }
    spec::Device device;
    device.path = key;
    device.type = asked.type();
    device.major = asked.major();
    device.minor = asked.minor();
    if (asked.has_file_mode()) device.file_mode = asked.file_mode().value();
    if (asked.has_uid()) device.uid = asked.uid().value();
    if (asked.has_gid()) device.gid = asked.gid().value();
    if (device.type != "p") into.resources->devices.push_back(rule_for(asked));
    into.devices.push_back(std::move(device));
  }
  for (const auto& asked : adjust.asked.resources().devices()) {
    spec::DeviceRule rule;
    rule.allow = asked.allow();
    rule.type = asked.type();
    if (asked.has_major()) rule.major = asked.major().value();
    if (asked.has_minor()) rule.minor = asked.minor().value();
    rule.access = asked.access();
    into.resources->devices.push_back(std::move(rule));
  }
  return {};
}

Result<> apply_namespaces(const LinuxAdjustment& adjust, spec::Linux& into) {
  for (const auto& asked : adjust.asked.namespaces()) {
    std::string_view word = asked.type();
    const bool removed = marked_for_removal(word);
    const auto type = spec::namespace_type(word);
    if (!type) return fail(Code::kInvalid, blame(adjust, api::Namespace, word) + ": there is no such type");
    if (*type == spec::NamespaceType::kMount && (removed || !asked.path().empty())) {
      return fail(Code::kUnsupported,
                  blame(adjust, api::Namespace, word) + ": a container has a mount namespace of its own");
    }
    std::erase_if(into.namespaces, [&](const spec::Namespace& other) { return other.type == *type; });
    if (removed) continue;
    spec::Namespace space;
    space.type = *type;
    space.path = asked.path();
    into.namespaces.push_back(std::move(space));
  }
  return {};
}

Result<> apply_seccomp(const LinuxAdjustment& adjust, spec::Linux& into) {
  const auto& asked = adjust.asked.seccomp_policy();
  spec::Seccomp policy;
  policy.default_action = asked.default_action();
  if (policy.default_action.empty()) {
    return fail(Code::kInvalid, blame(adjust, api::SeccompPolicy) + ": without a default action");
  }
  if (asked.has_default_errno()) policy.default_errno_ret = asked.default_errno().value();
  policy.architectures = {asked.architectures().begin(), asked.architectures().end()};
  policy.flags = {asked.flags().begin(), asked.flags().end()};
  policy.listener_path = asked.listener_path();
  policy.listener_metadata = asked.listener_metadata();
  for (const auto& from : asked.syscalls()) {
    spec::SeccompSyscall rule;
    rule.names = {from.names().begin(), from.names().end()};
    rule.action = from.action();
    if (from.has_errno_ret()) rule.errno_ret = from.errno_ret().value();
    for (const auto& arg : from.args()) {
      spec::SeccompArg condition;
      condition.index = arg.index();
      condition.value = arg.value();
      condition.value_two = arg.value_two();
      condition.op = arg.op();
      rule.args.push_back(std::move(condition));
    }
    policy.syscalls.push_back(std::move(rule));
  }
  into.seccomp = std::move(policy);
  return {};
}

Result<> apply_scheduling(const LinuxAdjustment& adjust, spec::Process& process) {
  const auto& asked = adjust.asked;
  if (asked.has_oom_score_adj()) {
    process.oom_score_adj =
        static_cast<std::int32_t>(std::clamp<std::int64_t>(asked.oom_score_adj().value(), -1000, 1000));
  }
  if (asked.has_io_priority()) {
    if (!api::IOPrioClass_IsValid(asked.io_priority().class_())) {
      return fail(Code::kInvalid, blame(adjust, api::IoPriority) + ": there is no such class");
    }
    process.io_priority.reset();
    if (asked.io_priority().class_() != api::IOPRIO_CLASS_NONE) {
      process.io_priority.emplace();
      process.io_priority->io_class = api::IOPrioClass_Name(asked.io_priority().class_());
      process.io_priority->priority = asked.io_priority().priority();
    }
  }
  if (!asked.has_scheduler()) return {};
  const auto& wanted = asked.scheduler();
  process.scheduler.reset();
  if (wanted.policy() == api::LINUX_SCHED_NONE) return {};
  constexpr std::string_view kOurs = "LINUX_";  // before the kernel's name
  if (!api::LinuxSchedulerPolicy_IsValid(wanted.policy())) {
    return fail(Code::kInvalid, blame(adjust, api::LinuxSched) + ": there is no such policy");
  }
  auto& into = process.scheduler.emplace();
  into.policy = api::LinuxSchedulerPolicy_Name(wanted.policy()).substr(kOurs.size());
  into.nice = wanted.nice();
  into.priority = wanted.priority();
  into.runtime = wanted.runtime();
  into.deadline = wanted.deadline();
  into.period = wanted.period();
  for (const int flag : wanted.flags()) {
    if (!api::LinuxSchedulerFlag_IsValid(flag)) {
      return fail(Code::kInvalid, blame(adjust, api::LinuxSched) + ": there is no such flag");
    }
    into.flags.push_back(api::LinuxSchedulerFlag_Name(static_cast<api::LinuxSchedulerFlag>(flag)).substr(kOurs.size()));
  }
  return {};
}

Result<> apply_memory_policy(const LinuxAdjustment& adjust, spec::Linux& into) {
  const auto& asked = adjust.asked.memory_policy();
  if (!api::MpolMode_IsValid(asked.mode())) {
    return fail(Code::kInvalid, blame(adjust, api::MemoryPolicy) + ": there is no such mode");
  }
  auto& policy = into.memory_policy.emplace();
  policy.mode = api::MpolMode_Name(asked.mode());
  policy.nodes = asked.nodes();
  for (const int flag : asked.flags()) {
    if (!api::MpolFlag_IsValid(flag)) {
      return fail(Code::kInvalid, blame(adjust, api::MemoryPolicy) + ": there is no such flag");
    }
    policy.flags.push_back(api::MpolFlag_Name(static_cast<api::MpolFlag>(flag)));
  }
  return {};
}

void apply_rdt(const api::LinuxRdt& asked, spec::Linux& into) {
  if (asked.remove()) into.intel_rdt.reset();
  if (!asked.has_clos_id() && !asked.has_schemata() && !asked.has_enable_monitoring()) return;
  if (!into.intel_rdt) into.intel_rdt.emplace();
  if (asked.has_clos_id()) into.intel_rdt->clos_id = asked.clos_id().value();
  if (asked.has_schemata()) {
    into.intel_rdt->schemata = {asked.schemata().value().begin(), asked.schemata().value().end()};
  }
  if (asked.has_enable_monitoring()) into.intel_rdt->enable_monitoring = asked.enable_monitoring().value();
}

Result<> apply_cgroups_path(const LinuxAdjustment& adjust, spec::Linux& into) {
  const std::string& path = adjust.asked.cgroups_path();
  if (path.empty()) return {};
  if (path.find(':') != path.npos) {
    return fail(Code::kUnsupported, blame(adjust, api::CgroupsPath) + ": \"" + path + "\" is systemd's form");
  }
  const auto parts = split(std::string_view(path).substr(1), '/');
  const bool good = path.starts_with('/') && path.find('\0') == path.npos &&
                    std::ranges::all_of(parts, [](auto part) { return !part.empty() && part != "." && part != ".."; });
  if (!good) return fail(Code::kInvalid, blame(adjust, api::CgroupsPath) + ": \"" + path + "\" is no absolute path");
  into.cgroups_path = path;
  return {};
}

void apply_maps(const api::LinuxContainerAdjustment& asked, spec::Linux& into) {
  for (const auto& [marked, value] : asked.sysctl()) {
    std::string_view key = marked;
    if (marked_for_removal(key)) {
      into.sysctl.erase(std::string(key));
    } else {
      into.sysctl[marked] = value;
    }
  }
  for (const auto& [marked, device] : asked.net_devices()) {
    std::string_view key = marked;
    if (marked_for_removal(key)) {
      into.net_devices.erase(std::string(key));
    } else {
      into.net_devices[marked].name = device.name();
    }
  }
}

}  // namespace

Result<> apply_linux(const LinuxAdjustment& adjust, spec::Spec& spec) {
  auto& into = *spec.linux;
  const auto& asked = adjust.asked;
  if (!into.resources) into.resources.emplace();
  if (asked.resources().blockio_class().value() != "") {
    return fail(Code::kUnsupported, blame(adjust, api::BlockioClass) + ": no classes of block I/O are configured");
  }
  if (asked.resources().rdt_class().value() != "") {
    return fail(Code::kUnsupported, blame(adjust, api::RdtClass) + ": no classes of RDT are configured");
  }
  if (asked.resources().has_blockio_class()) into.resources->block_io.reset();
  if (asked.resources().has_rdt_class()) into.intel_rdt.reset();
  BERTH_TRY(apply_devices(adjust, into), "NRI adjustment");
  const FieldName name = [&adjust](api::Field field, std::string_view key) { return blame(adjust, field, key); };
  BERTH_TRY(apply_resources(asked.resources(), adjust.machine, name, *into.resources), "NRI adjustment of resources");
  BERTH_TRY(apply_cgroups_path(adjust, into), "NRI adjustment");
  BERTH_TRY(apply_namespaces(adjust, into), "NRI adjustment");
  BERTH_TRY(apply_scheduling(adjust, *spec.process), "NRI adjustment");
  if (asked.has_seccomp_policy()) BERTH_TRY(apply_seccomp(adjust, into), "NRI adjustment");
  if (asked.has_memory_policy()) BERTH_TRY(apply_memory_policy(adjust, into), "NRI adjustment");
  if (asked.has_rdt()) apply_rdt(asked.rdt(), into);
  apply_maps(asked, into);
  return {};
}

}  // namespace berth::nri
