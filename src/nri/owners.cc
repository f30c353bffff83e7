#include "nri/owners.h"

#include "base/strings.h"

namespace berth::nri {
namespace {

struct FieldName {
  api::Field field;
  const char* words;
};

constexpr FieldName kNames[] = {
    {api::Annotations, "annotation"},
    {api::Mounts, "mount"},
    {api::OciHooks, "OCI hooks"},
    {api::Devices, "device"},
    {api::CdiDevices, "CDI device"},
    {api::Env, "environment variable"},
    {api::Args, "arguments"},
    {api::MemLimit, "memory limit"},
    {api::MemReservation, "memory reservation"},
    {api::MemSwapLimit, "swap limit"},
    {api::MemKernelLimit, "kernel memory limit"},
    {api::MemTCPLimit, "TCP memory limit"},
    {api::MemSwappiness, "swappiness"},
    {api::MemDisableOomKiller, "OOM killer switch"},
    {api::MemUseHierarchy, "memory hierarchy switch"},
    {api::CPUShares, "CPU shares"},
    {api::CPUQuota, "CPU quota"},
    {api::CPUPeriod, "CPU period"},
    {api::CPURealtimeRuntime, "realtime runtime"},
    {api::CPURealtimePeriod, "realtime period"},
    {api::CPUSetCPUs, "cpuset CPUs"},
    {api::CPUSetMems, "cpuset memory nodes"},
    {api::PidsLimit, "limit of tasks"},
    {api::HugepageLimits, "hugepage limit"},
    {api::BlockioClass, "block I/O class"},
    {api::RdtClass, "RDT class"},
    {api::CgroupsUnified, "cgroup v2 file"},
    {api::CgroupsPath, "cgroups path"},
    {api::OomScoreAdj, "OOM score adjustment"},
    {api::Rlimits, "rlimit"},
    {api::IoPriority, "I/O priority"},
    {api::SeccompPolicy, "seccomp policy"},
    {api::Namespace, "namespace"},
    {api::Sysctl, "sysctl"},
    {api::LinuxNetDevices, "network device"},
    {api::LinuxSched, "scheduler"},
    {api::RdtClosID, "RDT class of service"},
    {api::RdtSchemata, "RDT schemata"},
    {api::RdtEnableMonitoring, "RDT monitoring"},
    {api::MemoryPolicy, "memory policy"},
};

}  // namespace

std::string field_words(api::Field field, std::string_view key) {
  std::string words = "field " + std::to_string(static_cast<int>(field));
  for (const auto& name : kNames) {
    if (name.field == field) words = name.words;
  }
  if (!key.empty()) words.append(" ").append(key.substr(0, 200));
  return words;
}

std::string plugin_field(const Owners& owners, const std::string& container, api::Field field, std::string_view key) {
  const std::string owner = owners.of(container, field, std::string(key));
  return "NRI plugin " + (owner.empty() ? std::string("(several)") : owner) + ": " + field_words(field, key);
}

bool marked_for_removal(std::string_view& key) {
  if (!key.starts_with('-')) return false;
  key.remove_prefix(1);
  return true;
}

std::string clean_key(std::string_view key) {
  std::string_view path = key;
  const bool removed = marked_for_removal(path);
  if (!path.starts_with('/')) return std::string(key);
  return (removed ? "-" : "") + clean_path(path);
}

const std::string* Owners::find(const std::string& container, api::Field field, const std::string& key) const {
  const auto fields = all_.owners().find(container);
  if (fields == all_.owners().end()) return nullptr;
  if (key.empty()) {
    const auto found = fields->second.simple().find(field);
    return found == fields->second.simple().end() ? nullptr : &found->second;
  }
  const auto compound = fields->second.compound().find(field);
  if (compound == fields->second.compound().end()) return nullptr;
  const auto found = compound->second.owners().find(key);
  return found == compound->second.owners().end() ? nullptr : &found->second;
}

std::string& Owners::entry(const std::string& container, api::Field field, const std::string& key) {
  auto& fields = (*all_.mutable_owners())[container];
  if (key.empty()) return (*fields.mutable_simple())[field];
  return (*(*fields.mutable_compound())[field].mutable_owners())[key];
}

std::string Owners::of(const std::string& container, api::Field field, const std::string& key) const {
  const std::string* found = find(container, field, key);
  if (found == nullptr) return {};
  std::string_view name = *found;
  static_cast<void>(marked_for_removal(name));
  return std::string(name);
}

Result<> Owners::claim(const std::string& container, api::Field field, const std::string& key,
                       const std::string& plugin) {
  const std::string other = of(container, field, key);
  if (!other.empty() && other != plugin) {
    return fail(Code::kPrecondition, "NRI plugins " + other + " and " + plugin + " both set the " +
                                         field_words(field, key) + " of container " + container.substr(0, 13));
  }
  entry(container, field, key) = plugin;
  return {};
}

void Owners::clear(const std::string& container, api::Field field, const std::string& key, const std::string& plugin) {
  entry(container, field, key) = "-" + plugin;
}

void Owners::add_hooks(const std::string& container, const std::string& plugin) {
  std::string& owners = entry(container, api::OciHooks, {});
  if (!owners.empty()) owners.push_back(',');
  owners.append(plugin);
}

}  // namespace berth::nri
