#include "nri/adjustment.h"

#include <algorithm>
#include <set>
#include <utility>

namespace berth::nri {
namespace {

template <class T>
using List = google::protobuf::RepeatedPtrField<T>;

const std::string& key_of(const api::Mount& mount) {
  return mount.destination();
}
const std::string& key_of(const api::LinuxDevice& device) {
  return device.path();
}
const std::string& key_of(const api::KeyValue& variable) {
  return variable.key();
}
/// Of an environment as the container has it: NAME=value.
std::string key_of(const std::string& variable) {
  return variable.substr(0, variable.find('='));
}

api::Mount same(const api::Mount& mount) {
  return mount;
}
api::LinuxDevice same(const api::LinuxDevice& device) {
  return device;
}
std::string same(const api::KeyValue& variable) {
  return variable.key() + "=" + variable.value();
}

template <class T, class Drop>
void erase_if(List<T>& list, Drop drop) {
  for (int i = list.size() - 1; i >= 0; --i) {
    if (drop(list.Get(i))) list.DeleteSubrange(i, 1);
  }
}

// One place in a container has one name: it is by these that conflicts are found and things removed.
List<api::Mount> with_clean_paths(List<api::Mount> mounts) {
  for (auto& mount : mounts) mount.set_destination(clean_key(mount.destination()));
  return mounts;
}
List<api::LinuxDevice> with_clean_paths(List<api::LinuxDevice> devices) {
  for (auto& device : devices) device.set_path(clean_key(device.path()));
  return devices;
}

struct Who {
  Owners& owners;
  const std::string& container;
  const std::string& plugin;
};

/// What has a key and may be removed by it: mounts, devices, variables. `has`: the container's own list.
template <class T, class Has>
Result<> merge_list(const List<T>& asked, List<T>& collected, List<Has>& has, api::Field field, const Who& who) {
  std::set<std::string> gone;
  std::set<std::string> set;
  for (const T& item : asked) {
    std::string_view key = key_of(item);
    const bool removed = marked_for_removal(key);
    if (key.empty())
      return fail(Code::kInvalid, "NRI plugin " + who.plugin + ": " + field_words(field, "without a name"));
    (removed ? gone : set).emplace(key);
  }
  for (const auto& key : gone) {
    const std::string owner = who.owners.of(who.container, field, key);
    if (!owner.empty() || set.contains(key)) who.owners.clear(who.container, field, key, who.plugin);
  }
  erase_if(collected, [&](const T& item) {
    std::string_view key = key_of(item);
    static_cast<void>(marked_for_removal(key));
    return gone.contains(std::string(key));
  });
  erase_if(has, [&](const Has& item) {
    const std::string key(key_of(item));
    return gone.contains(key) || set.contains(key);
  });
  for (const T& item : asked) {
    std::string_view key = key_of(item);
    if (marked_for_removal(key)) {
      if (!set.contains(std::string(key))) *collected.Add() = item;
      continue;
    }
    BERTH_TRY(who.owners.claim(who.container, field, std::string(key), who.plugin), "adjust");
    erase_if(collected, [&](const T& other) { return key_of(other) == key; });
    *collected.Add() = item;
    *has.Add() = same(item);
  }
  return {};
}

/// The same for maps: annotations, sysctls, network devices.
template <class Value, class Map>
Result<> merge_map(const Map& asked, Map& collected, Map& has, api::Field field, const Who& who) {
  for (const auto& [marked, value] : asked) {
    std::string_view view = marked;
    if (!marked_for_removal(view)) continue;
    const std::string key(view);
    const bool again = asked.find(key) != asked.end();
    if (again || !who.owners.of(who.container, field, key).empty()) {
      who.owners.clear(who.container, field, key, who.plugin);
    }
    collected.erase(key);
    has.erase(key);
    if (!again) collected[marked] = Value();
  }
  for (const auto& [key, value] : asked) {
    if (key.starts_with('-')) continue;
    if (key.empty())
      return fail(Code::kInvalid, "NRI plugin " + who.plugin + ": " + field_words(field, "without a name"));
    BERTH_TRY(who.owners.claim(who.container, field, key, who.plugin), "adjust");
    collected.erase("-" + key);
    collected[key] = value;
    has[key] = value;
  }
  return {};
}

}  // namespace

Adjustment::Adjustment(api::CreateContainerRequest& request)
    : container_(*request.mutable_container()),
      id_(request.container().id()),
      updates_(owners_, std::string(), nullptr) {}

Result<> Adjustment::add(const api::CreateContainerResponse& answer, const std::string& plugin) {
  for (const auto& update : answer.update()) {
    if (update.container_id() == id_) {
      return fail(Code::kPrecondition,
                  "NRI plugin " + plugin + " asks for an update of the container that is being created");
    }
  }
  const auto& asked = answer.adjust();
  const Who who{owners_, id_, plugin};
  BERTH_TRY(merge_map<std::string>(asked.annotations(), *adjust_.mutable_annotations(),
                                   *container_.mutable_annotations(), api::Annotations, who),
            "NRI");
  BERTH_TRY(merge_list(with_clean_paths(asked.mounts()), *adjust_.mutable_mounts(), *container_.mutable_mounts(),
                       api::Mounts, who),
            "NRI");
  BERTH_TRY(merge_list(asked.env(), *adjust_.mutable_env(), *container_.mutable_env(), api::Env, who), "NRI");
  BERTH_TRY(add_process(asked, plugin), "NRI");
  if (asked.has_linux()) BERTH_TRY(add_linux(asked.linux(), plugin), "NRI");
  return updates_.add(answer.update(), plugin);
}

Result<> Adjustment::add_args(const api::ContainerAdjustment& asked, const std::string& plugin) {
  if (asked.args().empty()) return {};
  auto args = asked.args();
  if (args.Get(0).empty()) {
    owners_.clear(id_, api::Args, {}, plugin);
    args.DeleteSubrange(0, 1);
  }
  BERTH_TRY(claim(api::Args, {}, plugin), "adjust");
  *adjust_.mutable_args() = args;
  *container_.mutable_args() = args;
  return {};
}

Result<> Adjustment::add_process(const api::ContainerAdjustment& asked, const std::string& plugin) {
  BERTH_TRY(add_args(asked, plugin), "adjust");
  if (asked.has_hooks()) add_hooks(asked.hooks(), plugin);
  for (const auto& limit : asked.rlimits()) {
    BERTH_TRY(claim(api::Rlimits, limit.type(), plugin), "adjust");
    *adjust_.add_rlimits() = limit;
    *container_.add_rlimits() = limit;
  }
  for (const auto& device : asked.cdi_devices()) {
    BERTH_TRY(claim(api::CdiDevices, device.name(), plugin), "adjust");
    *adjust_.add_cdi_devices() = device;
    *container_.add_cdi_devices() = device;
  }
  return {};
}

void Adjustment::add_hooks(const api::Hooks& asked, const std::string& plugin) {
  const int count = asked.prestart_size() + asked.create_runtime_size() + asked.create_container_size() +
                    asked.start_container_size() + asked.poststart_size() + asked.poststop_size();
  if (count == 0) return;
  adjust_.mutable_hooks()->MergeFrom(asked);
  container_.mutable_hooks()->MergeFrom(asked);
  owners_.add_hooks(id_, plugin);
}

Result<> Adjustment::add_namespaces(const api::LinuxContainerAdjustment& asked, const std::string& plugin) {
  auto& has = *container_.mutable_linux()->mutable_namespaces();
  for (const auto& space : asked.namespaces()) {
    std::string_view view = space.type();
    const bool removed = marked_for_removal(view);
    const std::string type(view);
    BERTH_TRY(claim(api::Namespace, type, plugin), "adjust");
    erase_if(has, [&](const api::LinuxNamespace& other) { return other.type() == type; });
    if (!removed) *has.Add() = space;
    *adjust_.mutable_linux()->add_namespaces() = space;
  }
  return {};
}

Result<> Adjustment::add_rdt(const api::LinuxRdt& asked, const std::string& plugin) {
  auto& collected = *adjust_.mutable_linux()->mutable_rdt();
  if (asked.remove()) {
    for (const auto field : {api::RdtClosID, api::RdtSchemata, api::RdtEnableMonitoring}) {
      owners_.clear(id_, field, {}, plugin);
    }
    collected.Clear();
    collected.set_remove(true);
  }
  if (asked.has_clos_id()) {
    BERTH_TRY(claim(api::RdtClosID, {}, plugin), "adjust");
    *collected.mutable_clos_id() = asked.clos_id();
  }
  if (asked.has_schemata()) {
    BERTH_TRY(claim(api::RdtSchemata, {}, plugin), "adjust");
    *collected.mutable_schemata() = asked.schemata();
  }
  if (asked.has_enable_monitoring()) {
    BERTH_TRY(claim(api::RdtEnableMonitoring, {}, plugin), "adjust");
    *collected.mutable_enable_monitoring() = asked.enable_monitoring();
  }
  *container_.mutable_linux()->mutable_rdt() = collected;
  return {};
}

Result<> Adjustment::add_linux(const api::LinuxContainerAdjustment& asked, const std::string& plugin) {
  auto& collected = *adjust_.mutable_linux();
  auto& has = *container_.mutable_linux();
  const Who who{owners_, id_, plugin};
  BERTH_TRY(merge_list(with_clean_paths(asked.devices()), *collected.mutable_devices(), *has.mutable_devices(),
                       api::Devices, who),
            "linux");
  if (asked.has_resources()) {
    // Twice, once for the plugins that follow and once for the specification; the second claim is one's own.
    BERTH_TRY(merge_resources(asked.resources(), *collected.mutable_resources(), owners_, id_, plugin), "linux");
    BERTH_TRY(merge_resources(asked.resources(), *has.mutable_resources(), owners_, id_, plugin), "linux");
    collected.mutable_resources()->mutable_devices()->MergeFrom(asked.resources().devices());
    has.mutable_resources()->mutable_devices()->MergeFrom(asked.resources().devices());
  }
  if (!asked.cgroups_path().empty()) {
    BERTH_TRY(claim(api::CgroupsPath, {}, plugin), "linux");
    collected.set_cgroups_path(asked.cgroups_path());
    has.set_cgroups_path(asked.cgroups_path());
  }
  BERTH_TRY(add_namespaces(asked, plugin), "linux");
  BERTH_TRY(
      merge_map<std::string>(asked.sysctl(), *collected.mutable_sysctl(), *has.mutable_sysctl(), api::Sysctl, who),
      "linux");
  BERTH_TRY(merge_map<api::LinuxNetDevice>(asked.net_devices(), *collected.mutable_net_devices(),
                                           *has.mutable_net_devices(), api::LinuxNetDevices, who),
            "linux");
  if (asked.has_rdt()) BERTH_TRY(add_rdt(asked.rdt(), plugin), "linux");
  return add_linux_task(asked, plugin);
}

Result<> Adjustment::add_linux_task(const api::LinuxContainerAdjustment& asked, const std::string& plugin) {
  auto& collected = *adjust_.mutable_linux();
  auto& has = *container_.mutable_linux();
  if (asked.has_oom_score_adj()) {
    BERTH_TRY(claim(api::OomScoreAdj, {}, plugin), "linux");
    *collected.mutable_oom_score_adj() = asked.oom_score_adj();
    *has.mutable_oom_score_adj() = asked.oom_score_adj();
  }
  if (asked.has_io_priority()) {
    BERTH_TRY(claim(api::IoPriority, {}, plugin), "linux");
    *collected.mutable_io_priority() = asked.io_priority();
    *has.mutable_io_priority() = asked.io_priority();
  }
  if (asked.has_seccomp_policy()) {
    BERTH_TRY(claim(api::SeccompPolicy, {}, plugin), "linux");
    *collected.mutable_seccomp_policy() = asked.seccomp_policy();
    *has.mutable_seccomp_policy() = asked.seccomp_policy();
  }
  if (asked.has_scheduler()) {
    BERTH_TRY(claim(api::LinuxSched, {}, plugin), "linux");
    *collected.mutable_scheduler() = asked.scheduler();
    *has.mutable_scheduler() = asked.scheduler();
  }
  if (asked.has_memory_policy()) {
    BERTH_TRY(claim(api::MemoryPolicy, {}, plugin), "linux");
    *collected.mutable_memory_policy() = asked.memory_policy();
  }
  return {};
}

}  // namespace berth::nri
