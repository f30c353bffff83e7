#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"

namespace berth::network {

struct PortMapping {
  std::string protocol = "tcp";  ///< tcp, udp or sctp
  std::uint16_t container_port = 0;
  std::uint16_t host_port = 0;  ///< 0: not published
  std::string host_ip;          ///< empty: every address
};

/// The pod's resolver settings, for plugins that ask for them (capability "dns").
struct DnsSettings {
  std::vector<std::string> servers;
  std::vector<std::string> searches;
  std::vector<std::string> options;
};

/// The pod a network is made for.
struct PodNetwork {
  std::string sandbox_id;
  std::string pod_name;
  std::string pod_namespace;
  std::string pod_uid;
  /// The pod's network namespace. Borrowed; open for the whole call.
  int netns_fd = -1;
  /// A path of it that plugins can open, good as long as the pod lives ("/proc/<shim pid>/ns/net"); for remove() it may
  /// be dead or empty, which CNI allows.
  std::string netns_path;
  std::vector<PortMapping> ports;
  std::map<std::string, std::string> annotations;
  DnsSettings dns;
  std::string cgroup_path;  ///< the pod's cgroup, for the capability "cgroupPath"; empty: not told
};

/// What a pod got. Written to the sandbox's record.
struct Attachment {
  std::vector<std::string> ips;  ///< addresses of eth0, first is the primary one; no prefix length
  std::string gateway;
  std::string mac;
  std::string network;  ///< the network's name: "berth" for the built-in one, else the conflist's
};

struct Status {
  bool ready = false;
  std::string reason;   ///< CamelCase word, empty when ready
  std::string message;  ///< what is wrong and where, for people
  std::string network;  ///< the network in use
  bool builtin = false;
};

struct NetworkOptions {
  std::string state_dir;  ///< leases, cached results, intents: below --state or --root, made if absent
  std::string conf_dir;   ///< the CNI folder; first *.conf, *.conflist, *.json by name wins; none: the built-in network
  std::vector<std::string> bin_dirs;
  std::string bridge = "berth0";
  std::string subnet = "10.88.0.0/16";
  unsigned mtu = 0;  ///< 0: the kernel's
  bool masquerade = true;
  bool host_ports = true;
  unsigned plugin_timeout_s = 60;
};

/// The pods' network: CNI plugins when a conflist is there, else the built-in bridge. Thread-safe.
class Network {
 public:
  static Result<std::unique_ptr<Network>> open(NetworkOptions options);
  Network() = default;
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;
  Network(Network&&) = delete;
  Network& operator=(Network&&) = delete;
  virtual ~Network() = default;

  /// Attaches the pod: loopback up, eth0 with an address, default route, host ports. The intent is on disk before the
  /// first side effect; on error everything done is undone. Blocks. Idempotent for the same sandbox id.
  virtual Result<Attachment> add(const PodNetwork& pod, std::stop_token stop) = 0;
  /// Takes it all back: DEL for every plugin even when one fails; lease, veth, rules. Idempotent; unknown ids are
  /// success. An error means that something is left and recorded; the next call (or open()) tries again.
  virtual Result<> remove(const PodNetwork& pod) = 0;
  /// The ids of all sandboxes that hold something, for recovery.
  [[nodiscard]] virtual std::vector<std::string> holders() const = 0;
  /// Names of links that are ports of the built-in bridge, named as we name them, and that no sandbox holds. Asks the
  /// kernel.
  [[nodiscard]] virtual Result<std::vector<std::string>> strays() = 0;
  /// Removes a link that strays() named; kPrecondition when a sandbox holds it by now.
  virtual Result<> remove_stray(const std::string& link) = 0;
  /// Removes the bridge, chains and tables that the built-in network shares between pods, when no pod holds anything.
  virtual Result<> teardown() = 0;
  /// Asks CNI plugins (STATUS, from version 1.1 on) whether they are ready, for status() to tell. Blocks; open() does
  /// it once, a daemon may do it from time to time. Without such plugins success at once.
  virtual Result<> probe() { return {}; }
  /// From memory, but for two stat calls that notice a changed CNI folder (then its first file is read anew).
  [[nodiscard]] virtual Status status() const = 0;
};

}  // namespace berth::network
