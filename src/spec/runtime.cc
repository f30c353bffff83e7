#include "spec/runtime.h"

#include <array>
#include <utility>

#include "spec/struct_json.h"

namespace berth::spec {

namespace {
constexpr std::array<std::string_view, 8> kNamespaceNames = {"pid", "network", "mount",  "ipc",
                                                             "uts", "user",    "cgroup", "time"};
}  // namespace

std::string_view namespace_name(NamespaceType type) {
  return kNamespaceNames[static_cast<std::size_t>(type)];
}

std::optional<NamespaceType> namespace_type(std::string_view name) {
  for (std::size_t i = 0; i < kNamespaceNames.size(); ++i) {
    if (kNamespaceNames[i] == name) return static_cast<NamespaceType>(i);
  }
  return std::nullopt;
}

const Namespace* Linux::find_namespace(NamespaceType type) const {
  for (const auto& entry : namespaces) {
    if (entry.type == type) return &entry;
  }
  return nullptr;
}

bool read_value(JsonReader& reader, NamespaceType& out) {
  std::string name;
  if (!reader.string(name)) return false;
  const auto type = namespace_type(name);
  if (!type) return reader.fail_here("no such namespace type: " + quote(name.substr(0, 64)));
  out = *type;
  return true;
}

// Not in an unnamed namespace: the visitors find these by argument-dependent lookup.

template <class V, Is<IdMapping> S>
void fields(V& v, S& s) {
  v.always("containerID", s.container_id);
  v.always("hostID", s.host_id);
  v.always("size", s.size);
}

template <class V, Is<ConsoleSize> S>
void fields(V& v, S& s) {
  v.always("height", s.height);
  v.always("width", s.width);
}

template <class V, Is<User> S>
void fields(V& v, S& s) {
  v.always("uid", s.uid);
  v.always("gid", s.gid);
  v.member("umask", s.umask);
  v.member("additionalGids", s.additional_gids);
  v.member("username", s.username);
}

template <class V, Is<Capabilities> S>
void fields(V& v, S& s) {
  v.member("bounding", s.bounding);
  v.member("effective", s.effective);
  v.member("inheritable", s.inheritable);
  v.member("permitted", s.permitted);
  v.member("ambient", s.ambient);
}

template <class V, Is<Rlimit> S>
void fields(V& v, S& s) {
  v.always("type", s.type);
  v.always("hard", s.hard);
  v.always("soft", s.soft);
}

template <class V, Is<Scheduler> S>
void fields(V& v, S& s) {
  v.always("policy", s.policy);
  v.member("nice", s.nice);
  v.member("priority", s.priority);
  v.member("flags", s.flags);
  v.member("runtime", s.runtime);
  v.member("deadline", s.deadline);
  v.member("period", s.period);
}

template <class V, Is<IoPriority> S>
void fields(V& v, S& s) {
  v.always("class", s.io_class);
  v.always("priority", s.priority);
}

template <class V, Is<ExecCpuAffinity> S>
void fields(V& v, S& s) {
  v.member("initial", s.initial);
  v.member("final", s.final_cpus);
}

template <class V, Is<Process> S>
void fields(V& v, S& s) {
  v.member("terminal", s.terminal);
  v.member("consoleSize", s.console_size);
  v.always("user", s.user);
  v.member("args", s.args);
  v.member("env", s.env);
  v.always("cwd", s.cwd);
  v.member("capabilities", s.capabilities);
  v.member("rlimits", s.rlimits);
  v.member("noNewPrivileges", s.no_new_privileges);
  v.member("apparmorProfile", s.apparmor_profile);
  v.member("oomScoreAdj", s.oom_score_adj);
  v.member("selinuxLabel", s.selinux_label);
  v.member("scheduler", s.scheduler);
  v.member("ioPriority", s.io_priority);
  v.member("execCPUAffinity", s.exec_cpu_affinity);
}

template <class V, Is<Root> S>
void fields(V& v, S& s) {
  v.always("path", s.path);
  v.member("readonly", s.readonly);
}

template <class V, Is<Mount> S>
void fields(V& v, S& s) {
  v.always("destination", s.destination);
  v.member("type", s.type);
  v.member("source", s.source);
  v.member("options", s.options);
  v.member("uidMappings", s.uid_mappings);
  v.member("gidMappings", s.gid_mappings);
}

template <class V, Is<Hook> S>
void fields(V& v, S& s) {
  v.always("path", s.path);
  v.member("args", s.args);
  v.member("env", s.env);
  v.member("timeout", s.timeout);
}

template <class V, Is<Hooks> S>
void fields(V& v, S& s) {
  v.member("prestart", s.prestart);
  v.member("createRuntime", s.create_runtime);
  v.member("createContainer", s.create_container);
  v.member("startContainer", s.start_container);
  v.member("poststart", s.poststart);
  v.member("poststop", s.poststop);
}

template <class V, Is<Namespace> S>
void fields(V& v, S& s) {
  v.always("type", s.type);
  v.member("path", s.path);
}

template <class V, Is<TimeOffset> S>
void fields(V& v, S& s) {
  v.member("secs", s.secs);
  v.member("nanosecs", s.nanosecs);
}

template <class V, Is<Device> S>
void fields(V& v, S& s) {
  v.always("path", s.path);
  v.always("type", s.type);
  v.always("major", s.major);
  v.always("minor", s.minor);
  v.member("fileMode", s.file_mode);
  v.member("uid", s.uid);
  v.member("gid", s.gid);
}

template <class V, Is<DeviceRule> S>
void fields(V& v, S& s) {
  v.always("allow", s.allow);
  v.member("type", s.type);
  v.member("major", s.major);
  v.member("minor", s.minor);
  v.member("access", s.access);
}

template <class V, Is<MemoryResources> S>
void fields(V& v, S& s) {
  v.member("limit", s.limit);
  v.member("reservation", s.reservation);
  v.member("swap", s.swap);
  v.member("kernel", s.kernel);
  v.member("kernelTCP", s.kernel_tcp);
  v.member("swappiness", s.swappiness);
  v.member("disableOOMKiller", s.disable_oom_killer);
  v.member("useHierarchy", s.use_hierarchy);
  v.member("checkBeforeUpdate", s.check_before_update);
}

template <class V, Is<CpuResources> S>
void fields(V& v, S& s) {
  v.member("shares", s.shares);
  v.member("quota", s.quota);
  v.member("burst", s.burst);
  v.member("period", s.period);
  v.member("realtimeRuntime", s.realtime_runtime);
  v.member("realtimePeriod", s.realtime_period);
  v.member("cpus", s.cpus);
  v.member("mems", s.mems);
  v.member("idle", s.idle);
}

template <class V, Is<PidsResources> S>
void fields(V& v, S& s) {
  v.member("limit", s.limit);
}

template <class V, Is<WeightDevice> S>
void fields(V& v, S& s) {
  v.always("major", s.major);
  v.always("minor", s.minor);
  v.member("weight", s.weight);
  v.member("leafWeight", s.leaf_weight);
}

template <class V, Is<ThrottleDevice> S>
void fields(V& v, S& s) {
  v.always("major", s.major);
  v.always("minor", s.minor);
  v.always("rate", s.rate);
}

template <class V, Is<BlockIoResources> S>
void fields(V& v, S& s) {
  v.member("weight", s.weight);
  v.member("leafWeight", s.leaf_weight);
  v.member("weightDevice", s.weight_device);
  v.member("throttleReadBpsDevice", s.throttle_read_bps_device);
  v.member("throttleWriteBpsDevice", s.throttle_write_bps_device);
  v.member("throttleReadIOPSDevice", s.throttle_read_iops_device);
  v.member("throttleWriteIOPSDevice", s.throttle_write_iops_device);
}

template <class V, Is<HugepageLimit> S>
void fields(V& v, S& s) {
  v.always("pageSize", s.page_size);
  v.always("limit", s.limit);
}

template <class V, Is<InterfacePriority> S>
void fields(V& v, S& s) {
  v.always("name", s.name);
  v.always("priority", s.priority);
}

template <class V, Is<NetworkResources> S>
void fields(V& v, S& s) {
  v.member("classID", s.class_id);
  v.member("priorities", s.priorities);
}

template <class V, Is<RdmaLimit> S>
void fields(V& v, S& s) {
  v.member("hcaHandles", s.hca_handles);
  v.member("hcaObjects", s.hca_objects);
}

template <class V, Is<Resources> S>
void fields(V& v, S& s) {
  v.member("devices", s.devices);
  v.member("memory", s.memory);
  v.member("cpu", s.cpu);
  v.member("pids", s.pids);
  v.member("blockIO", s.block_io);
  v.member("hugepageLimits", s.hugepage_limits);
  v.member("network", s.network);
  v.member("rdma", s.rdma);
  v.member("unified", s.unified);
}

template <class V, Is<SeccompArg> S>
void fields(V& v, S& s) {
  v.always("index", s.index);
  v.always("value", s.value);
  v.member("valueTwo", s.value_two);
  v.always("op", s.op);
}

template <class V, Is<SeccompSyscall> S>
void fields(V& v, S& s) {
  v.always("names", s.names);
  v.always("action", s.action);
  v.member("errnoRet", s.errno_ret);
  v.member("args", s.args);
}

template <class V, Is<Seccomp> S>
void fields(V& v, S& s) {
  v.always("defaultAction", s.default_action);
  v.member("defaultErrnoRet", s.default_errno_ret);
  v.member("architectures", s.architectures);
  v.member("flags", s.flags);
  v.member("listenerPath", s.listener_path);
  v.member("listenerMetadata", s.listener_metadata);
  v.member("syscalls", s.syscalls);
}

template <class V, Is<IntelRdt> S>
void fields(V& v, S& s) {
  v.member("closID", s.clos_id);
  v.member("schemata", s.schemata);
  v.member("l3CacheSchema", s.l3_cache_schema);
  v.member("memBwSchema", s.mem_bw_schema);
  v.member("enableCMT", s.enable_cmt);
  v.member("enableMBM", s.enable_mbm);
  v.member("enableMonitoring", s.enable_monitoring);
}

template <class V, Is<Personality> S>
void fields(V& v, S& s) {
  v.always("domain", s.domain);
  v.member("flags", s.flags);
}

template <class V, Is<MemoryPolicy> S>
void fields(V& v, S& s) {
  v.always("mode", s.mode);
  v.member("nodes", s.nodes);
  v.member("flags", s.flags);
}

template <class V, Is<NetDevice> S>
void fields(V& v, S& s) {
  v.member("name", s.name);
}

template <class V, Is<Linux> S>
void fields(V& v, S& s) {
  v.member("uidMappings", s.uid_mappings);
  v.member("gidMappings", s.gid_mappings);
  v.member("sysctl", s.sysctl);
  v.member("resources", s.resources);
  v.member("cgroupsPath", s.cgroups_path);
  v.member("namespaces", s.namespaces);
  v.member("timeOffsets", s.time_offsets);
  v.member("devices", s.devices);
  v.member("netDevices", s.net_devices);
  v.member("seccomp", s.seccomp);
  v.member("rootfsPropagation", s.rootfs_propagation);
  v.member("maskedPaths", s.masked_paths);
  v.member("readonlyPaths", s.readonly_paths);
  v.member("mountLabel", s.mount_label);
  v.member("intelRdt", s.intel_rdt);
  v.member("memoryPolicy", s.memory_policy);
  v.member("personality", s.personality);
}

template <class V, Is<Spec> S>
void fields(V& v, S& s) {
  v.always("ociVersion", s.oci_version);
  v.member("process", s.process);
  v.member("root", s.root);
  v.member("hostname", s.hostname);
  v.member("domainname", s.domainname);
  v.member("mounts", s.mounts);
  v.member("hooks", s.hooks);
  v.member("annotations", s.annotations);
  v.member("linux", s.linux);
}

Result<Spec> parse_spec(std::string_view json, const Limits& limits) {
  return parse_document<Spec>(json, limits);
}
std::string write_spec(const Spec& spec) {
  return write_document(spec);
}

Result<Process> parse_process(std::string_view json, const Limits& limits) {
  return parse_document<Process>(json, limits);
}
std::string write_process(const Process& process) {
  return write_document(process);
}

Result<Resources> parse_resources(std::string_view json, const Limits& limits) {
  return parse_document<Resources>(json, limits);
}
std::string write_resources(const Resources& resources) {
  return write_document(resources);
}

}  // namespace berth::spec
