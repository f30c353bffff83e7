#include "network/cni_store.h"

#include <fcntl.h>

#include <cstdio>

#include "base/ids.h"
#include "base/log.h"
#include "network/cni_conf.h"
#include "network/json.h"
#include "os/file.h"

namespace berth::network {
namespace {

constexpr int kVersion = 1;
constexpr JsonLimits kLimits{8U << 20, 32};
constexpr std::string_view kSuffix = ".json";

const char* state_name(CniRecord::State state) {
  switch (state) {
    case CniRecord::State::kAdding:
      return "adding";
    case CniRecord::State::kAdded:
      return "added";
    case CniRecord::State::kRemoving:
      break;
  }
  return "removing";
}

Json format_pod(const PodNetwork& pod) {
  Json ports = Json::array();
  for (const auto& port : pod.ports) {
    ports.push_back({{"protocol", port.protocol},
                     {"container", port.container_port},
                     {"host", port.host_port},
                     {"ip", port.host_ip}});
  }
  return {{"id", pod.sandbox_id},
          {"name", pod.pod_name},
          {"namespace", pod.pod_namespace},
          {"uid", pod.pod_uid},
          {"netns", pod.netns_path},
          {"ports", std::move(ports)},
          {"annotations", pod.annotations},
          {"dns", {{"servers", pod.dns.servers}, {"searches", pod.dns.searches}, {"options", pod.dns.options}}},
          {"cgroup", pod.cgroup_path}};
}

// Throws what the library throws for a missing or wrong member; parse_cni_record() catches.
PodNetwork read_pod(const Json& json) {
  PodNetwork pod;
  json.at("id").get_to(pod.sandbox_id);
  json.at("name").get_to(pod.pod_name);
  json.at("namespace").get_to(pod.pod_namespace);
  json.at("uid").get_to(pod.pod_uid);
  json.at("netns").get_to(pod.netns_path);
  json.at("annotations").get_to(pod.annotations);
  json.at("cgroup").get_to(pod.cgroup_path);
  json.at("dns").at("servers").get_to(pod.dns.servers);
  json.at("dns").at("searches").get_to(pod.dns.searches);
  json.at("dns").at("options").get_to(pod.dns.options);
  for (const auto& item : json.at("ports")) {
    PortMapping port;
    item.at("protocol").get_to(port.protocol);
    item.at("container").get_to(port.container_port);
    item.at("host").get_to(port.host_port);
    item.at("ip").get_to(port.host_ip);
    pod.ports.push_back(std::move(port));
  }
  return pod;
}

CniRecord read_record(const Json& json) {
  CniRecord out;
  const auto state = json.at("state").get<std::string>();
  if (state == "added") out.state = CniRecord::State::kAdded;
  if (state == "removing") out.state = CniRecord::State::kRemoving;
  out.pod = read_pod(json.at("pod"));
  json.at("netnsDevice").get_to(out.netns_dev);
  json.at("netnsInode").get_to(out.netns_inode);
  json.at("ifname").get_to(out.ifname);
  json.at("conf").get_to(out.conf);
  json.at("result").get_to(out.result);
  json.at("pending").get_to(out.pending);
  return out;
}

}  // namespace

std::string format_cni_record(const CniRecord& record) {
  return json_text({{"version", kVersion},
                    {"state", state_name(record.state)},
                    {"pod", format_pod(record.pod)},
                    {"netnsDevice", record.netns_dev},
                    {"netnsInode", record.netns_inode},
                    {"ifname", record.ifname},
                    {"conf", record.conf},
                    {"result", record.result},
                    {"pending", record.pending}});
}

Result<CniRecord> parse_cni_record(std::string_view text) {
  BERTH_ASSIGN(const Json json, parse_json_object(text, kLimits), "CNI record");
  try {
    const int version = json.at("version").get<int>();
    if (version != kVersion) return fail(Code::kUnsupported, "CNI record of version " + std::to_string(version));
    CniRecord record = read_record(json);
    if (!valid_id(record.pod.sandbox_id)) return fail(Code::kCorrupt, "CNI record with a bad sandbox id");
    // DEL depends on it: better known now than then.
    BERTH_ASSIGN(const auto conf, parse_cni_conf(record.conf), "CNI record");
    for (const auto index : record.pending) {
      if (index >= conf.plugins.size()) return fail(Code::kCorrupt, "CNI record with a plugin that is not in its list");
    }
    return record;
  } catch (const std::exception& e) {
    return fail(Code::kCorrupt, std::string("CNI record: ") + e.what());
  }
}

Result<std::unique_ptr<CniStore>> CniStore::open(std::string dir) {
  BERTH_TRY(os::make_dirs(dir, 0700), "make the folder of CNI records");
  BERTH_ASSIGN(auto lock, os::open_file(dir + "/lock", O_RDWR | O_CREAT, 0600), "lock the CNI records");
  BERTH_ASSIGN(const bool ours, os::try_lock(lock.get()), "lock the CNI records");
  if (!ours) return fail(Code::kPrecondition, dir + " is in use by another daemon");
  std::unique_ptr<CniStore> store(new CniStore(std::move(dir), std::move(lock)));
  const MutexLock hold(store->mutex_);
  BERTH_TRY(store->load(), "read the CNI records");
  return store;
}

Result<> CniStore::load() {
  BERTH_ASSIGN(const auto names, os::list_dir(dir_), "list");
  for (const auto& name : names) {
    // Cut off by a kill while a record was written (os::write_file_atomic).
    if (name.contains(std::string(kSuffix) + ".tmp-"))
      BERTH_TRY(os::remove_file(dir_ + "/" + name), "unfinished record");
    if (!name.ends_with(kSuffix)) continue;
    const std::string path = dir_ + "/" + name;
    BERTH_ASSIGN(const auto text, os::read_file(path, kLimits.bytes), "read");
    auto record = parse_cni_record(text);
    if (record && record->pod.sandbox_id + std::string(kSuffix) != name) {
      record = fail(Code::kCorrupt, "the record of another sandbox");
    }
    if (record) {
      records_.emplace(record->pod.sandbox_id, std::move(*record));
      continue;
    }
    if (record.error().code() == Code::kUnsupported) return fail(std::move(record).error().in(path));
    log_warn("an unreadable CNI record is set aside", {{"file", path}, {"error", record.error().text()}});
    if (::rename(path.c_str(), (path + ".bad").c_str()) != 0) return fail_errno(errno, "set aside " + path);
  }
  return {};
}

Result<> CniStore::put(const CniRecord& record) {
  const std::string& id = record.pod.sandbox_id;
  if (!valid_id(id)) return fail(Code::kInvalid, "not a sandbox id: " + id);
  // What plugins hold (leases of host-local) survives a power failure, so the record must, too.
  BERTH_TRY(os::write_file_atomic(path_of(id), format_cni_record(record), 0600, os::Sync::kYes),
            "write the CNI record of " + id);
  const MutexLock hold(mutex_);
  records_[id] = record;
  records_[id].pod.netns_fd = -1;
  return {};
}

Result<> CniStore::erase(const std::string& sandbox_id) {
  {
    const MutexLock hold(mutex_);
    if (!records_.contains(sandbox_id)) return {};
  }
  BERTH_TRY(os::remove_file(path_of(sandbox_id)), "remove the CNI record");
  const MutexLock hold(mutex_);
  records_.erase(sandbox_id);
  return {};
}

std::optional<CniRecord> CniStore::find(const std::string& sandbox_id) const {
  const MutexLock hold(mutex_);
  const auto found = records_.find(sandbox_id);
  if (found == records_.end()) return std::nullopt;
  return found->second;
}

std::vector<std::string> CniStore::ids() const {
  const MutexLock hold(mutex_);
  std::vector<std::string> out;
  for (const auto& [id, record] : records_) out.push_back(id);
  return out;
}

}  // namespace berth::network
