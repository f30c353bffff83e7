#include <algorithm>
#include <array>

#include "base/strings.h"
#include "cri/pod_files.h"
#include "cri/seccomp_default.h"
#include "cri/spec_builder.h"
#include "spec/json_text.h"

namespace berth::cri {

namespace {

using Type = spec::NamespaceType;

spec::Namespace space(Type type, std::string path = {}) {
  spec::Namespace out;
  out.type = type;
  out.path = std::move(path);
  return out;
}

Result<spec::Namespace> pid_namespace(const SpecInput& input, const pb::NamespaceOption& options) {
  if (options.pid() == pb::TARGET) {
    if (input.target_pid <= 0) return fail(Code::kPrecondition, "pid namespace: the target container does not run");
    return space(Type::kPid, "/proc/" + std::to_string(input.target_pid) + "/ns/pid");
  }
  // Who gives no options asks for none.
  if (input.container.linux().security_context().has_namespace_options() && options.pid() == pb::POD) {
    if (input.facts.init_pid <= 0) {
      return fail(Code::kInvalid, "pid namespace: POD in a sandbox that was not made with pid POD");
    }
    return space(Type::kPid, "/proc/" + std::to_string(input.facts.init_pid) + "/ns/pid");
  }
  return space(Type::kPid);
}

/// The namespaces of one container. What is the host's has no entry.
Result<std::vector<spec::Namespace>> namespaces(const SpecInput& input) {
  const auto& security = input.container.linux().security_context();
  const auto& options = security.namespace_options();
  const std::string shim = "/proc/" + std::to_string(input.facts.shim_pid) + "/ns/";
  std::vector<spec::Namespace> all = {space(Type::kMount)};
  BERTH_TRY(check_container_ids(options, input.facts.ids), "container");
  if (input.facts.ids) all.push_back(space(Type::kUser, user_namespace_path(input.facts.shim_pid)));
  if (options.pid() != pb::NODE) {
    BERTH_ASSIGN(auto pid, pid_namespace(input, options), "container");
    all.push_back(std::move(pid));
  }
  if (options.ipc() != pb::NODE) all.push_back(space(Type::kIpc, shim + "ipc"));
  if (!input.facts.host_network) {
    all.push_back(space(Type::kNetwork, shim + "net"));
    all.push_back(space(Type::kUts, shim + "uts"));
  }
  // Under v1 the host's cgroup mounts stay visible read-only, as runc and containerd have it.
  if (input.host.cgroup_v2) all.push_back(space(Type::kCgroup));
  return all;
}

spec::DeviceRule device_rule(bool allow, std::string type, std::optional<std::int64_t> major,
                             std::optional<std::int64_t> minor, std::string access) {
  spec::DeviceRule rule;
  rule.allow = allow;
  rule.type = std::move(type);
  rule.major = major;
  rule.minor = minor;
  rule.access = std::move(access);
  return rule;
}

/// Deny all, then what every container may have: mknod of anything (a node is useless without leave to open it), null,
/// zero, full, random, urandom, tty, console, ptmx and the pts.
std::vector<spec::DeviceRule> standard_rules() {
  std::vector<spec::DeviceRule> rules = {device_rule(false, "", std::nullopt, std::nullopt, "rwm"),
                                         device_rule(true, "c", std::nullopt, std::nullopt, "m"),
                                         device_rule(true, "b", std::nullopt, std::nullopt, "m")};
  for (const std::int64_t minor : {3, 5, 7, 8, 9}) rules.push_back(device_rule(true, "c", 1, minor, "rwm"));
  for (const std::int64_t minor : {0, 1, 2}) rules.push_back(device_rule(true, "c", 5, minor, "rwm"));
  rules.push_back(device_rule(true, "c", 136, std::nullopt, "rwm"));
  return rules;
}

void add_devices(const SpecInput& input, spec::Linux& out) {
  auto& rules = out.resources->devices;
  if (input.container.linux().security_context().privileged()) {
    rules.push_back(device_rule(true, "", std::nullopt, std::nullopt, "rwm"));
    out.devices = input.host_devices;
  } else {
    rules = standard_rules();
  }
  for (const auto& granted : input.devices) {
    std::erase_if(out.devices, [&](const spec::Device& other) { return other.path == granted.device.path; });
    out.devices.push_back(granted.device);
    rules.push_back(device_rule(true, granted.device.type, granted.device.major, granted.device.minor, granted.access));
  }
}

/// A field that the interface calls deprecated and old clients still send: by name, as the accessor warns.
std::string deprecated_text(const pb::LinuxContainerSecurityContext& security, const char* field) {
  const auto* descriptor = security.GetDescriptor()->FindFieldByName(field);
  return descriptor == nullptr ? std::string() : security.GetReflection()->GetString(security, descriptor);
}

/// The AppArmor profile's name; "" for none. Source: CRI SecurityProfile; the deprecated string says the same.
Result<std::string> apparmor_profile(const SpecInput& input) {
  const auto& security = input.container.linux().security_context();
  // Without a word a container has the default where there is one, as Kubernetes says.
  auto type =
      input.host.apparmor_default.empty() ? pb::SecurityProfile::Unconfined : pb::SecurityProfile::RuntimeDefault;
  std::string name;
  if (security.has_apparmor()) {
    type = security.apparmor().profile_type();
    name = security.apparmor().localhost_ref();
  } else if (const auto old = deprecated_text(security, "apparmor_profile"); !old.empty()) {
    type = old == "unconfined"        ? pb::SecurityProfile::Unconfined
           : old == "runtime/default" ? pb::SecurityProfile::RuntimeDefault
                                      : pb::SecurityProfile::Localhost;
    name = old;
  }
  if (name.starts_with("localhost/")) name.erase(0, 10);
  if (type == pb::SecurityProfile::Unconfined || security.privileged()) return std::string();
  if (!input.host.apparmor) return fail(Code::kUnsupported, "apparmor: this kernel has no AppArmor");
  if (type == pb::SecurityProfile::RuntimeDefault) {
    if (!input.host.apparmor_default.empty()) return input.host.apparmor_default;
    return fail(Code::kUnavailable, "apparmor: the profile for RuntimeDefault is not loaded: " +
                                        input.host.apparmor_problem + "; name a Localhost profile or Unconfined");
  }
  if (name.empty()) return fail(Code::kInvalid, "apparmor: Localhost without a profile's name");
  return name;
}

std::vector<std::string> list(const google::protobuf::RepeatedPtrField<std::string>& words) {
  return {words.begin(), words.end()};
}

}  // namespace

Result<SeccompChoice> seccomp_choice(const pb::LinuxContainerSecurityContext& security) {
  SeccompChoice choice;
  if (security.privileged()) return choice;
  if (security.has_seccomp()) {
    choice.type = security.seccomp().profile_type();
    choice.localhost_path = security.seccomp().localhost_ref();
  } else {
    const std::string old = deprecated_text(security, "seccomp_profile_path");
    if (old == "runtime/default" || old == "docker/default") choice.type = pb::SecurityProfile::RuntimeDefault;
    if (old.starts_with("localhost/")) {
      choice.type = pb::SecurityProfile::Localhost;
      choice.localhost_path = old.substr(10);
    } else if (!old.empty() && old != "unconfined" && choice.type == pb::SecurityProfile::Unconfined) {
      return fail(Code::kInvalid, "seccomp_profile_path \"" + old + "\" is no profile");
    }
  }
  if (choice.type == pb::SecurityProfile::Localhost) {
    if (choice.localhost_path.starts_with("localhost/")) choice.localhost_path.erase(0, 10);
    if (!choice.localhost_path.starts_with('/')) {
      return fail(Code::kInvalid, "seccomp: the path of a Localhost profile is not absolute: " + choice.localhost_path);
    }
  }
  return choice;
}

Result<spec::Seccomp> parse_seccomp_profile(std::string_view json) {
  // The parser of the whole specification knows the object; the small tree first, so that nothing but one value goes
  // in.
  BERTH_ASSIGN(const auto tree, spec::parse_json(json), "seccomp profile");
  if (!tree.is_object()) return fail(Code::kInvalid, "seccomp profile: not a JSON object");
  const std::string document = R"({"ociVersion":"1.0.0","linux":{"seccomp":)" + tree.write() + "}}";
  BERTH_ASSIGN(auto parsed, spec::parse_spec(document), "seccomp profile");
  if (!parsed.linux || !parsed.linux->seccomp || parsed.linux->seccomp->default_action.empty()) {
    return fail(Code::kInvalid, "seccomp profile: no defaultAction");
  }
  return std::move(*parsed.linux->seccomp);
}

Result<std::optional<spec::Seccomp>> build_seccomp(const SpecInput& input, const spec::Process& process) {
  BERTH_ASSIGN(const auto choice, seccomp_choice(input.container.linux().security_context()), "security_context");
  if (choice.type == pb::SecurityProfile::Unconfined) return std::optional<spec::Seccomp>{};
  if (choice.type == pb::SecurityProfile::Localhost) return input.localhost_seccomp;
  const auto& bounding = process.capabilities->bounding;
  return std::optional(default_seccomp(
      [&bounding](std::string_view cap) { return std::ranges::find(bounding, cap) != bounding.end(); }));
}

Result<> check_selinux(const pb::SELinuxOption& option, const HostFacts& host) {
  const bool asked =
      !option.user().empty() || !option.role().empty() || !option.type().empty() || !option.level().empty();
  // Without SELinux a label says nothing, and pods that carry one are to run on such nodes too.
  if (!asked || !host.selinux) return {};
  return fail(Code::kUnsupported, "selinux_options: labels are not built yet");
}

Result<spec::Linux> build_linux(const SpecInput& input, const spec::Process& process) {
  const auto& security = input.container.linux().security_context();
  BERTH_TRY(check_selinux(security.selinux_options(), input.host), "security_context");
  spec::Linux out;
  BERTH_ASSIGN(out.namespaces, namespaces(input), "namespace_options");
  if (input.facts.ids) {
    // Said beside the namespace too: a runtime that looks for whom the files belong to looks here.
    out.uid_mappings = {input.facts.ids->uids};
    out.gid_mappings = {input.facts.ids->gids};
  }
  BERTH_ASSIGN(out.resources, build_resources(input.container.linux().resources(), input.host), "resources");
  add_devices(input, out);
  out.cgroups_path = spec_cgroups_path(input.facts.cgroup_driver, input.facts.cgroup_parent, input.container_id);
  BERTH_ASSIGN(out.seccomp, build_seccomp(input, process), "seccomp");
  if (!security.privileged()) {
    out.masked_paths = list(security.masked_paths());
    out.readonly_paths = list(security.readonly_paths());
  }
  for (const auto& mount : input.container.mounts()) {
    // Without it the engine would cut each copy off from the host.
    if (mount.propagation() == pb::PROPAGATION_BIDIRECTIONAL) out.rootfs_propagation = "rshared";
    const bool inwards = mount.propagation() == pb::PROPAGATION_HOST_TO_CONTAINER;
    if (inwards && out.rootfs_propagation.empty()) out.rootfs_propagation = "rslave";
  }
  return out;
}

Result<SpecOutput> build_spec(const SpecInput& input) {
  const auto& security = input.container.linux().security_context();
  SpecOutput out;
  if (security.privileged() && !input.pod.linux().security_context().privileged()) {
    return fail(Code::kInvalid, "a privileged container in a pod that is not privileged");
  }
  auto& document = out.spec;
  document.oci_version = "1.2.0";
  BERTH_ASSIGN(document.process, build_process(input, out.warnings), "process");
  BERTH_ASSIGN(document.process->apparmor_profile, apparmor_profile(input), "security_context");
  spec::Root root;
  root.path = "rootfs";
  root.readonly = security.readonly_rootfs();
  document.root = root;
  BERTH_ASSIGN(document.mounts, build_mounts(input), "mounts");
  BERTH_ASSIGN(document.linux, build_linux(input, *document.process), "linux");
  const auto& metadata = input.pod.metadata();
  document.annotations = {
      {"io.kubernetes.cri.container-type", "container"},
      {"io.kubernetes.cri.container-name", input.container.metadata().name()},
      {"io.kubernetes.cri.image-name", input.container.image().image()},
      {"io.kubernetes.cri.sandbox-id", input.facts.sandbox_id},
      {"io.kubernetes.cri.sandbox-name", metadata.name()},
      {"io.kubernetes.cri.sandbox-namespace", metadata.namespace_()},
      {"io.kubernetes.cri.sandbox-uid", metadata.uid()},
  };
  return out;
}

}  // namespace berth::cri
