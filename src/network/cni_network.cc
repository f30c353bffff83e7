#include "network/cni_network.h"

#include <linux/netlink.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "network/cni_plugin.h"
#include "network/cni_result.h"
#include "os/file.h"
#include "os/link.h"
#include "os/netlink.h"
#include "os/netns.h"

namespace berth::network {
namespace {

constexpr const char* kIfname = "eth0";
constexpr std::size_t kMaxConfBytes = 256U << 10;
constexpr std::chrono::milliseconds kResumeTimeout{10'000};
// Timestamps move in steps of the kernel's tick: a change within it could leave them the same.
constexpr std::int64_t kClockStepNs = 50'000'000;

std::int64_t nanoseconds(const timespec& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

struct NetnsId {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
};
NetnsId netns_id(const std::string& path) {
  struct stat info{};
  if (path.empty() || ::stat(path.c_str(), &info) != 0) return {};
  return {info.st_dev, info.st_ino};
}

// The path for DEL: only if it still names the namespace of ADD. A pid in it may belong to somebody else by now.
std::string netns_for_delete(const CniRecord& record, const std::string& offered) {
  for (const auto& path : {offered, record.pod.netns_path}) {
    const NetnsId now = netns_id(path);
    if (now.inode != 0 && now.inode == record.netns_inode && now.device == record.netns_dev) return path;
  }
  return {};
}

Result<> bring_loopback_up(int netns_fd) {
  return os::run_in_netns(netns_fd, []() -> Result<> {
    BERTH_ASSIGN(auto route, os::NetlinkSocket::open(NETLINK_ROUTE), "loopback");
    os::NetlinkBatch batch;
    os::put_link_up(batch, "lo");
    return route.transact(batch);
  });
}

// The plugin's own text when it is in the right version already, so that nothing which we do not know gets lost.
Result<std::string> in_version(const std::string& text, const std::string& version) {
  BERTH_ASSIGN(const auto result, parse_cni_result(text, version), "read");
  if (result.version == version) return text;
  return format_cni_result(result, version);
}

CniCall call_of(const char* command, const CniPlugin& plugin, const PodNetwork& pod, const std::string& args) {
  CniCall call;
  call.command = command;
  call.type = plugin.type;
  call.container_id = pod.sandbox_id;
  call.netns = pod.netns_path;
  call.ifname = kIfname;
  call.args = args;
  return call;
}

}  // namespace

CniNetwork::Stamp CniNetwork::stamp_of(const std::string& path) {
  struct stat info{};
  if (path.empty() || ::stat(path.c_str(), &info) != 0) return {};
  return {info.st_dev, info.st_ino, static_cast<std::uint64_t>(info.st_size), nanoseconds(info.st_ctim),
          nanoseconds(info.st_mtim)};
}

CniNetwork::Config CniNetwork::read_config(const std::string& dir, Stamp& stamp) {
  Config out;
  auto file = first_cni_file(dir);
  if (!file) {
    out.file = dir;
    out.fault = dir + ": " + file.error().text();
    return out;
  }
  out.file = *file;
  if (file->empty()) return out;
  // Before the read: a change during it must be seen the next time.
  stamp = stamp_of(*file);
  const auto text = os::read_file(*file, kMaxConfBytes);
  if (!text) {
    out.fault = *file + ": " + text.error().text();
    return out;
  }
  auto conf = parse_cni_conf(*text);
  if (conf) {
    out.conf = std::make_shared<const CniConf>(std::move(*conf));
  } else {
    out.fault = *file + ": " + conf.error().text();
  }
  return out;
}

CniNetwork::Config CniNetwork::config() const {
  if (options_.conf_dir.empty()) return {};
  const MutexLock hold(mutex_);
  const Stamp folder = stamp_of(options_.conf_dir);
  if (fresh_ && folder == folder_ && stamp_of(config_.file) == file_) return config_;
  const Config before = config_;
  const std::int64_t now = wall_now_ns();
  folder_ = folder;
  file_ = {};
  config_ = read_config(options_.conf_dir, file_);
  // The same content is the same configuration for those who hold it.
  if (config_.conf && before.conf && config_.conf->text == before.conf->text) config_.conf = before.conf;
  fresh_ = now - folder_.changed_ns > kClockStepNs && now - file_.changed_ns > kClockStepNs;
  if (config_.fault != before.fault && !config_.fault.empty()) {
    log_warn("the network configuration is wrong", {{"error", config_.fault}});
  } else if (config_.conf && config_.conf != before.conf) {
    log_info("network configuration loaded", {{"file", config_.file}, {"network", config_.conf->name}});
  }
  return config_;
}

Result<std::unique_ptr<CniNetwork>> CniNetwork::open(const NetworkOptions& options) {
  BERTH_ASSIGN(auto store, CniStore::open(options.state_dir + "/cni"), "CNI networks");
  std::unique_ptr<CniNetwork> network(new CniNetwork(options, std::move(store)));
  network->resume();
  return network;
}

// Removals that did not finish are tried again; additions that did not finish are taken back when their namespace is
// gone, else the daemon decides: it may retry the pod.
void CniNetwork::resume() {
  for (const auto& id : store_->ids()) {
    const auto record = store_->find(id);
    if (!record || record->state == CniRecord::State::kAdded) continue;
    const auto netns = netns_for_delete(*record, {});
    if (record->state == CniRecord::State::kAdding && !netns.empty()) continue;
    if (auto removed = delete_plugins(*record, netns, kResumeTimeout); !removed) {
      log_warn("an unfinished network removal failed again", {{"sandbox", id}, {"error", removed.error().text()}});
    }
  }
}

Result<std::string> CniNetwork::add_plugins(const CniConf& conf, const PodNetwork& pod, const std::string& args,
                                            const std::stop_token& stop) const {
  std::string previous;
  for (std::size_t i = 0; i < conf.plugins.size(); ++i) {
    const auto& plugin = conf.plugins[i];
    CniCall call = call_of("ADD", plugin, pod, args);
    BERTH_ASSIGN(call.input, plugin_input(conf, i, pod, previous), "CNI plugin " + plugin.type);
    call.timeout = std::chrono::seconds(options_.plugin_timeout_s);
    call.stop = stop;
    BERTH_ASSIGN(const auto printed, run_cni_plugin(options_.bin_dirs, call), "network " + conf.name);
    BERTH_ASSIGN(previous, in_version(printed, conf.version),
                 "network " + conf.name + ": result of CNI plugin " + plugin.type);
    BERTH_TRY(failpoint("cni.plugin-added"), "CNI plugin " + plugin.type);
  }
  return previous;
}

Result<Attachment> CniNetwork::finish(CniRecord record, const CniConf& conf) {
  BERTH_ASSIGN(const auto parsed, parse_cni_result(record.result, conf.version), "network " + conf.name);
  auto attachment = attachment_of(parsed, record.ifname, conf.name);
  if (attachment.ips.empty()) {
    return fail(Code::kInvalid, "network " + conf.name + ": the plugins' result has no address for the pod");
  }
  record.state = CniRecord::State::kAdded;
  BERTH_TRY(store_->put(record), "network " + conf.name);
  crashpoint("cni.added");
  return attachment;
}

Result<Attachment> CniNetwork::add(const CniConf& conf, const PodNetwork& pod, std::stop_token stop) {
  if (const auto old = store_->find(pod.sandbox_id)) {
    const NetnsId now = netns_id(pod.netns_path);
    if (old->state == CniRecord::State::kAdded && old->netns_inode == now.inode && old->netns_dev == now.device) {
      BERTH_ASSIGN(const auto then, parse_cni_conf(old->conf), "cached network");
      BERTH_ASSIGN(const auto result, parse_cni_result(old->result, then.version), "cached network");
      return attachment_of(result, old->ifname, then.name);
    }
    BERTH_TRY(remove(pod), "take back an unfinished network");
  }
  CniRecord record;
  record.pod = pod;
  record.ifname = kIfname;
  record.conf = conf.text;
  const NetnsId netns = netns_id(pod.netns_path);
  if (netns.inode == 0) return fail(Code::kNotFound, "no network namespace at " + pod.netns_path);
  record.netns_dev = netns.device;
  record.netns_inode = netns.inode;
  for (std::size_t i = 0; i < conf.plugins.size(); ++i) record.pending.push_back(i);
  BERTH_ASSIGN(const auto args, cni_args(pod), "network " + conf.name);
  BERTH_TRY(bring_loopback_up(pod.netns_fd), "network " + conf.name);
  BERTH_TRY(store_->put(record), "network " + conf.name);
  BERTH_TRY(failpoint("cni.recorded"), "network " + conf.name);
  auto added = [&]() -> Result<Attachment> {
    BERTH_ASSIGN(record.result, add_plugins(conf, pod, args, stop), "pod " + pod.pod_namespace + "/" + pod.pod_name);
    return finish(record, conf);
  }();
  if (added) return added;
  // The specification asks for DEL of every plugin after a failed ADD. What does not work stays recorded.
  if (auto undone = remove(pod); !undone) {
    log_warn("undo of a failed network set-up failed too",
             {{"sandbox", pod.sandbox_id}, {"error", undone.error().text()}});
  }
  return added;
}

Result<> CniNetwork::delete_plugins(CniRecord record, const std::string& netns, std::chrono::milliseconds timeout) {
  BERTH_ASSIGN(const auto conf, parse_cni_conf(record.conf), "network of " + record.pod.sandbox_id);
  BERTH_ASSIGN(const auto args, cni_args(record.pod), "network " + conf.name);
  record.state = CniRecord::State::kRemoving;
  BERTH_TRY(store_->put(record), "network " + conf.name);
  BERTH_TRY(failpoint("cni.removing"), "network " + conf.name);
  // From 0.4.0 on the plugins get the cached result.
  const std::string previous = cni_version_at_least(conf.version, "0.4.0") ? record.result : "";
  std::vector<std::size_t> failed;
  std::optional<Error> first;
  std::ranges::sort(record.pending, std::greater<>());
  for (const std::size_t index : record.pending) {
    const auto& plugin = conf.plugins[index];
    CniCall call = call_of("DEL", plugin, record.pod, args);
    call.netns = netns;
    call.timeout = timeout;
    Result<std::string> ran = plugin_input(conf, index, record.pod, previous);
    if (ran) {
      call.input = std::move(*ran);
      ran = run_cni_plugin(options_.bin_dirs, call);
      crashpoint("cni.plugin-deleted");
    }
    // "Unknown container" means that nothing is left to do.
    if (ran || ran.error().code() == Code::kNotFound) continue;
    failed.push_back(index);
    if (!first) first = ran.error().in("network " + conf.name);
  }
  if (failed.empty()) {
    BERTH_TRY(store_->erase(record.pod.sandbox_id), "network " + conf.name);
    crashpoint("cni.erased");
    return {};
  }
  record.pending = std::move(failed);
  BERTH_TRY(store_->put(record), "network " + conf.name);
  return fail(std::move(*first));
}

Result<> CniNetwork::remove(const PodNetwork& pod) {
  const auto record = store_->find(pod.sandbox_id);
  if (!record) return {};
  // Not cancellable: half a removal helps nobody, and each plugin has its time limit.
  return delete_plugins(*record, netns_for_delete(*record, pod.netns_path),
                        std::chrono::seconds(options_.plugin_timeout_s));
}

Result<> CniNetwork::check_status(const CniConf& conf) const {
  if (!cni_version_at_least(conf.version, "1.1.0")) return {};
  const PodNetwork none;
  for (std::size_t i = 0; i < conf.plugins.size(); ++i) {
    CniCall call;
    call.command = "STATUS";
    call.type = conf.plugins[i].type;
    call.timeout = kResumeTimeout;
    BERTH_ASSIGN(call.input, plugin_input(conf, i, none, {}), "network " + conf.name);
    BERTH_TRY(run_cni_plugin(options_.bin_dirs, call), "network " + conf.name);
  }
  return {};
}

}  // namespace berth::network
