#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <future>
#include <system_error>

#include "base/failpoint.h"
#include "base/ids.h"
#include "base/log.h"
#include "cri/pod_files.h"
#include "cri/service_impl.h"
#include "cri/shim_process.h"
#include "cri/user_namespace.h"
#include "os/file.h"
#include "os/netns.h"
#include "os/pidfd.h"
#include "os/user_namespace.h"

namespace berth::cri {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kConnectTimeout{5000};
constexpr std::size_t kMaxName = 1024;
constexpr std::size_t kMaxResolvConf = 64U << 10;
constexpr int kMaxPortMappings = 4096;

bool same_pod(const pb::PodSandboxMetadata& a, const pb::PodSandboxMetadata& b) {
  return a.uid() == b.uid() && a.name() == b.name() && a.namespace_() == b.namespace_() && a.attempt() == b.attempt();
}

std::string key_of(const pb::PodSandboxMetadata& metadata) {
  std::string key = "run";
  for (const auto& part :
       {metadata.uid(), metadata.namespace_(), metadata.name(), std::to_string(metadata.attempt())}) {
    key.push_back('\0');
    key.append(part);
  }
  return key;
}

std::string protocol_word(pb::Protocol protocol) {
  if (protocol == pb::UDP) return "udp";
  return protocol == pb::SCTP ? "sctp" : "tcp";
}

bool is_address(const std::string& text) {
  in6_addr space{};
  return ::inet_pton(AF_INET, text.c_str(), &space) == 1 || ::inet_pton(AF_INET6, text.c_str(), &space) == 1;
}

Result<> check_ports(const pb::PodSandboxConfig& config) {
  if (config.port_mappings_size() > kMaxPortMappings) return fail(Code::kInvalid, "port_mappings: more than 4096");
  for (const auto& port : config.port_mappings()) {
    if (port.container_port() < 1 || port.container_port() > 65535 || port.host_port() < 0 ||
        port.host_port() > 65535) {
      return fail(Code::kInvalid, "port_mappings: " + std::to_string(port.host_port()) + " to " +
                                      std::to_string(port.container_port()) + " are no ports");
    }
    if (!port.host_ip().empty() && !is_address(port.host_ip())) {
      return fail(Code::kInvalid, "port_mappings: host_ip \"" + port.host_ip() + "\" is no address");
    }
    if (!pb::Protocol_IsValid(port.protocol())) return fail(Code::kInvalid, "port_mappings: unknown protocol");
  }
  return {};
}

Result<> check_namespaces(const pb::LinuxSandboxSecurityContext& security) {
  const auto& options = security.namespace_options();
  if (options.network() != pb::POD && options.network() != pb::NODE) {
    return fail(Code::kInvalid, "namespace_options.network is neither POD nor NODE");
  }
  if (options.ipc() != pb::POD && options.ipc() != pb::NODE) {
    return fail(Code::kInvalid, "namespace_options.ipc is neither POD nor NODE");
  }
  if (options.pid() == pb::TARGET) return fail(Code::kInvalid, "namespace_options.pid: a sandbox cannot have TARGET");
  BERTH_TRY(pod_ids(options), "namespace_options");
  return {};
}

Result<std::string> pod_resolv_conf(const pb::PodSandboxConfig& config) {
  if (config.has_dns_config() && (config.dns_config().servers_size() > 0 || config.dns_config().searches_size() > 0 ||
                                  config.dns_config().options_size() > 0)) {
    return resolv_conf(config.dns_config());
  }
  auto host = os::read_file("/etc/resolv.conf", kMaxResolvConf);
  if (!host && host.error().code() == Code::kNotFound) return std::string();
  return host;
}

}  // namespace

/// A sandbox on its way: what was made so far. Goes back by itself, in `undo`, unless it is finished.
struct ServiceImpl::Making {
  SandboxRecord record;
  Handler handler;
  std::string dir;
  std::shared_ptr<Pod> pod;
  std::optional<PodIds> ids;
  os::UserNamespace user;  ///< with `ids`
  UniqueFd netns;
  os::Child shim;
  Plugins::Passage passage;
  Rollback undo;
};

Result<> ServiceImpl::check_sandbox(const pb::RunPodSandboxRequest& request) const {
  const auto& config = request.config();
  const auto& metadata = config.metadata();
  if (metadata.name().empty() || metadata.namespace_().empty() || metadata.uid().empty()) {
    return fail(Code::kInvalid, "metadata: name, namespace and uid are all needed");
  }
  if (metadata.name().size() > kMaxName || metadata.namespace_().size() > kMaxName ||
      metadata.uid().size() > kMaxName) {
    return fail(Code::kInvalid, "metadata: a name is longer than 1024 bytes");
  }
  BERTH_TRY(handlers_.find(request.runtime_handler()), "config");
  BERTH_TRY(check_namespaces(config.linux().security_context()), "linux.security_context");
  BERTH_TRY(check_selinux(config.linux().security_context().selinux_options(), host_), "linux.security_context");
  BERTH_TRY(check_ports(config), "config");
  if (config.hostname().size() > 64) return fail(Code::kInvalid, "hostname is longer than 64 bytes");
  if (!config.log_directory().empty() && !config.log_directory().starts_with('/')) {
    return fail(Code::kInvalid, "log_directory is not absolute");
  }
  BERTH_TRY(resolv_conf(config.dns_config()), "config");
  BERTH_TRY(pod_cgroup(options_.cgroup_driver, config.linux().cgroup_parent(), options_.cgroup_parent, "0"), "linux");
  return {};
}

Result<pb::RunPodSandboxResponse> ServiceImpl::run_pod_sandbox(const Call& call,
                                                               const pb::RunPodSandboxRequest& request) {
  BERTH_TRY(check_sandbox(request), "RunPodSandbox");
  const auto& metadata = request.config().metadata();
  const std::string title = "RunPodSandbox " + metadata.namespace_() + "/" + metadata.name();
  auto id =
      operations_.run(key_of(metadata), title, call, [this, request](Operation& operation) -> Result<std::string> {
        // Read from memory once more: the operation that this one would have joined may have ended just now.
        for (const auto& record : registry_->sandboxes()) {
          if (record->state != SandboxState::kReady ||
              !same_pod(record->config.metadata(), request.config().metadata())) {
            continue;
          }
          if (const auto link = link_of(record->id); link && (*link)->alive()) return record->id;
        }
        return make_sandbox(operation, request);
      });
  crashpoint("run.answer");
  if (!id) return fail(std::move(id).error());
  pb::RunPodSandboxResponse answer;
  answer.set_pod_sandbox_id(*id);
  return answer;
}

/// Notes the intent. Nothing of the sandbox exists before.
Result<> ServiceImpl::record_sandbox(SandboxRecord& record) {
  MutexLock lock(cgroup_mutex_);
  // The part of the cgroup's path that is made for our pods: it goes when the last of them goes.
  const auto all = registry_->sandboxes();
  for (std::size_t end = 0; end != std::string::npos;) {
    end = record.cgroup_parent.find('/', end + 1);
    const std::string prefix = record.cgroup_parent.substr(0, end);
    const bool made_by_us =
        std::ranges::any_of(all, [&](const SandboxPtr& other) { return other->cgroup_top == prefix; });
    if (made_by_us || !cgroup_exists(cgroups_, prefix)) {
      record.cgroup_top = prefix;
      break;
    }
  }
  return registry_->add(record);
}

Result<> ServiceImpl::check_driver(const Handler& handler) const {
  if (options_.cgroup_driver == CgroupDriver::kCgroupfs || handler.shim.empty()) return {};
  // Its options are how a shim is told, and those are runc's.
  if (unit_of(handler.shim).starts_with("containerd-shim-runc-")) return {};
  return fail(Code::kUnsupported, "cgroup.driver is \"systemd\", and " + handler.shim +
                                      " cannot be told: it needs \"cgroupfs\", here and in the kubelet");
}

/// Whether the handler can run such a pod.
Result<> ServiceImpl::check_features(const Handler& handler, const pb::PodSandboxConfig& config) const {
  if (!ids_of(config)) return {};
  const HandlerFeatures features = features_.of(handler);
  if (!features.user_namespaces()) {
    return fail(Code::kUnsupported, "userns_options: no user namespaces here: " + features.no_user_namespaces);
  }
  const bool host_network = config.linux().security_context().namespace_options().network() == pb::NODE;
  if (host_network && !handler.ours()) {
    return fail(Code::kUnsupported,
                "userns_options: a user namespace on the host's network is offered by Berth's own engine alone");
  }
  return {};
}

Result<std::string> ServiceImpl::make_sandbox(Operation& operation, const pb::RunPodSandboxRequest& request,
                                              const std::string& restored_from) {
  Making making;
  making.record.restored_from = restored_from;
  BERTH_ASSIGN(making.handler, handlers_.find(request.runtime_handler()), "sandbox");
  BERTH_TRY(check_ready(making.handler), "handler \"" + request.runtime_handler() + "\"");
  BERTH_TRY(check_driver(making.handler), "handler \"" + request.runtime_handler() + "\"");
  BERTH_TRY(check_features(making.handler, request.config()), "handler \"" + request.runtime_handler() + "\"");
  making.record.id = new_id();
  making.passage = plugins_.making(making.record.id);
  const auto& metadata = request.config().metadata();
  timelines_.begin(making.record.id, metadata.namespace_(), metadata.name());
  operation.about(making.record.id);
  if (auto made = make_recorded(operation, request, making); !made) {
    timelines_.removed(making.record.id);
    return fail(std::move(made).error());
  }
  return making.record.id;
}

Result<> ServiceImpl::make_recorded(Operation& operation, const pb::RunPodSandboxRequest& request, Making& making) {
  auto& record = making.record;
  record.created_at_ns = wall_now_ns();
  record.config = request.config();
  record.handler = request.runtime_handler();
  record.host_network = request.config().linux().security_context().namespace_options().network() == pb::NODE;
  record.network_held = !record.host_network;
  making.ids = ids_of(record.config);
  record.systemd_cgroups = options_.cgroup_driver == CgroupDriver::kSystemd;
  BERTH_ASSIGN(
      record.cgroup_parent,
      pod_cgroup(options_.cgroup_driver, request.config().linux().cgroup_parent(), options_.cgroup_parent, record.id),
      "sandbox");
  making.dir = dir_of(record.id);
  {
    const Stage stage(operation, "note the intent", record.id);
    BERTH_TRY(record_sandbox(record), "note the intent");
    making.undo.add("record of sandbox " + record.id, [this, id = record.id] { return registry_->erase_sandbox(id); });
    BERTH_TRY(failpoint("run.recorded"), "RunPodSandbox");
  }
  making.undo.add("folder of sandbox " + record.id, [dir = making.dir] { return os::remove_tree(dir); });
  auto made = make_pod_side(operation, making);
  if (!made) return made;
  BERTH_TRY(finish_sandbox(operation, making), "finish the sandbox");
  return {};
}

/// A pod with ids of its own: all namespaces that are the pod's belong to its user namespace, or its root would have no
/// rights in them. They are gone with this process until the shim holds them.
Result<> ServiceImpl::make_user_namespace(Operation& operation, Making& making) {
  if (!making.ids) return {};
  const Stage stage(operation, "make the user namespace", making.record.id);
  const int flags = CLONE_NEWIPC | (making.record.host_network ? 0 : CLONE_NEWNET | CLONE_NEWUTS);
  BERTH_ASSIGN(making.user, os::make_user_namespace(map_line(making.ids->uids), map_line(making.ids->gids), flags),
               "sandbox");
  making.netns = std::move(making.user.network);
  return {};
}

Result<> ServiceImpl::start_pod_shim(Operation& operation, Making& making, int netns_fd) {
  ShimStart start{.shim_path = options_.shim_path, .pod_dir = making.dir, .sandbox_id = making.record.id};
  start.filter_cache = options_.root_dir + "/seccomp";
  start.netns_fd = netns_fd;
  for (const auto& [fd, number] :
       {std::pair(making.user.user.get(), kUserNamespaceFd), std::pair(making.user.ipc.get(), kIpcNamespaceFd),
        std::pair(making.user.uts.get(), kUtsNamespaceFd)}) {
    if (fd >= 0) start.fds.push_back({fd, number});
  }
  const Stage stage(operation, "start the shim", options_.shim_path);
  BERTH_TRY(failpoint("run.shim"), "sandbox");
  BERTH_ASSIGN(making.shim, start_shim(start), "shim");
  crashpoint("run.shim-started");
  return {};
}

/// Network and shim at the same time: the sandbox takes as long as the slower of the two.
Result<> ServiceImpl::make_pod_side(Operation& operation, Making& making) {
  auto& record = making.record;
  BERTH_TRY(make_user_namespace(operation, making), "user namespace");
  std::promise<Result<int>> netns_made;
  auto netns_ready = netns_made.get_future();
  Result<network::Attachment> attached;
  const auto network_side = [&] {
    std::optional<Stage> stage;
    stage.emplace(operation, "make the network namespace");
    auto netns = making.ids ? Result<UniqueFd>(std::move(making.netns)) : os::create_netns();
    if (!netns) {
      attached = fail(netns.error());
      return netns_made.set_value(fail(std::move(netns).error().in("network namespace")));
    }
    making.netns = std::move(*netns);
    crashpoint("run.netns");
    netns_made.set_value(making.netns.get());
    stage.reset();
    stage.emplace(operation, "network attach", record.id);
    attached = options_.network->add(pod_network(record, making.netns.get()), {});
    crashpoint("run.attached");
    network_dropped_ = false;
  };
  const auto shim_side = [&]() -> Result<> {
    {
      const Stage stage(operation, "write the pod's folder", making.dir);
      BERTH_TRY(write_pod_files(record, making.handler, making.dir), "pod folder");
      BERTH_TRY(failpoint("run.folder"), "pod folder");
    }
    int netns_fd = -1;
    if (!record.host_network) {
      BERTH_ASSIGN(netns_fd, netns_ready.get(), "sandbox");
    }
    return start_pod_shim(operation, making, netns_fd);
  };
  std::thread network_thread;
  if (!record.host_network) {
    try {
      network_thread = std::thread(network_side);
    } catch (const std::system_error& error) {
      return fail(Code::kExhausted, std::string("no thread for the network: ") + error.what());
    }
  }
  auto shim = shim_side();
  if (network_thread.joinable()) network_thread.join();
  if (!record.host_network && attached) {
    record.network = *attached;
    making.undo.add("network of sandbox " + record.id, [this, &making] {
      return options_.network->remove(pod_network(making.record, making.netns.get()));
    });
  }
  if (shim) {
    making.undo.add("shim of sandbox " + record.id, [&making]() -> Result<> {
      if (making.pod) making.pod->expect_end();
      return end_process(making.shim.pidfd.get(), milliseconds(5000));
    });
  }
  if (!record.host_network && !attached) return fail(std::move(attached).error().in("network attach"));
  return shim;
}

network::PodNetwork ServiceImpl::pod_network(const SandboxRecord& record, int netns_fd) {
  const auto& metadata = record.config.metadata();
  network::PodNetwork pod;
  pod.sandbox_id = record.id;
  pod.pod_name = metadata.name();
  pod.pod_namespace = metadata.namespace_();
  pod.pod_uid = metadata.uid();
  pod.netns_fd = netns_fd;
  // Good while the call lasts, whatever becomes of the shim.
  if (netns_fd >= 0) pod.netns_path = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(netns_fd);
  for (const auto& port : record.config.port_mappings()) {
    pod.ports.push_back({protocol_word(port.protocol()), static_cast<std::uint16_t>(port.container_port()),
                         static_cast<std::uint16_t>(port.host_port()), port.host_ip()});
  }
  pod.annotations = {record.config.annotations().begin(), record.config.annotations().end()};
  return pod;
}

Result<> ServiceImpl::write_pod_files(const SandboxRecord& record, const Handler& handler, const std::string& dir) {
  BERTH_ASSIGN(const auto resolv, pod_resolv_conf(record.config), "resolv.conf");
  BERTH_TRY(os::make_dirs(dir, 0711), "pod");
  BERTH_TRY(os::make_dirs(dir + "/shm", 0711), "pod");
  BERTH_TRY(os::make_dirs(dir + "/containers", 0711), "pod");
  const std::string& hostname = record.config.hostname().empty() ? host_.hostname : record.config.hostname();
  // The folder is new and nobody reads it before it is whole, so plain writes do.
  BERTH_TRY(write_new_file(dir + "/sandbox.json",
                           sandbox_json(record, handler, options_.log_max_line_bytes, options_.scope_program)),
            "pod");
  const auto ids = ids_of(record.config);
  BERTH_TRY(write_new_file(dir + "/resolv.conf", resolv, ids), "pod");
  BERTH_TRY(write_new_file(dir + "/hostname", hostname + "\n", ids), "pod");
  return {};
}

/// With `ids` it belongs to the pod's root, who may write it where its container may.
Result<> ServiceImpl::write_new_file(const std::string& path, std::string_view text, const std::optional<PodIds>& ids) {
  BERTH_ASSIGN(const auto file, os::open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644), "write");
  if (ids && ::fchown(file.get(), ids->root_uid(), ids->root_gid()) != 0) return fail_errno(errno, "chown " + path);
  BERTH_TRY(os::write_all(file.get(), text), "write " + path);
  return {};
}

Result<> ServiceImpl::finish_sandbox(Operation& operation, Making& making) {
  auto& record = making.record;
  std::shared_ptr<ShimLink> link;
  {
    const Stage stage(operation, "connect to the shim", record.id);
    BERTH_ASSIGN(link, ShimLink::connect(*reactor_, shim_socket(making.dir), kConnectTimeout), "shim");
    BERTH_TRY(failpoint("run.connected"), "shim");
    if (shares_pids(record.config)) {
      BERTH_ASSIGN(const auto info, link->pod_info(kConnectTimeout), "shim");
      record.init_pid = static_cast<pid_t>(info.init_pid());
    }
  }
  const Stage stage(operation, "finish the sandbox", record.id);
  const std::string& hostname = record.config.hostname().empty() ? host_.hostname : record.config.hostname();
  if (record.host_network) {
    auto hosts = os::read_file("/etc/hosts", kMaxResolvConf);
    BERTH_TRY(write_new_file(making.dir + "/hosts", hosts ? *hosts : hosts_file(hostname, {}), making.ids), "pod");
  } else {
    BERTH_TRY(write_new_file(making.dir + "/hosts", hosts_file(hostname, record.network.ips), making.ids), "pod");
  }
  BERTH_TRY(failpoint("run.finish"), "sandbox");
  record.shim_pid = making.shim.pid;
  if (auto started = os::process_start_time(record.shim_pid)) record.shim_start = *started;
  making.undo.add("NRI plugins of sandbox " + record.id, [this, &record]() -> Result<> {
    plugins_.undo_pod(record);
    return {};
  });
  BERTH_TRY(plugins_.run_pod(operation, making.passage, record), "plugins");
  making.pod = make_pod(record.id);
  making.pod->attach(link, std::move(making.shim.pidfd), record.shim_pid);
  record.state = record.restored_from.empty() ? SandboxState::kReady : SandboxState::kRestoring;
  if (auto stored = registry_->add(record); !stored) {
    making.pod->expect_end();
    making.shim.pidfd = making.pod->pidfd();
    making.pod->detach();
    drop_pod(record.id);
    return fail(std::move(stored).error());
  }
  making.undo.commit();
  crashpoint("run.stored");
  follow_events(making.pod, link, 0);
  return {};
}

}  // namespace berth::cri
