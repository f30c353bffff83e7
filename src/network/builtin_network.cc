#include "network/builtin_network.h"

#include <linux/netlink.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>

#include "base/failpoint.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/rollback.h"
#include "base/strings.h"
#include "os/file.h"
#include "os/link.h"
#include "os/netns.h"

namespace berth::network {
namespace {

constexpr std::size_t kMaxLinkName = 15;
constexpr std::string_view kLinkPrefix = "veth";
constexpr std::string_view kLinkDigits = "0123456789abcdefghijklmnopqrstuv";
constexpr const char* kPodLink = "eth0";
constexpr const char* kForwardFile = "/proc/sys/net/ipv4/ip_forward";

bool valid_link_name(std::string_view name) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  };
  return !name.empty() && name.size() <= kMaxLinkName && name != "." && name != ".." && name != "all" &&
         name != "default" && name != "lo" && std::ranges::all_of(name, good);
}

/// Whether host_link_name() could have made it: others may hang links of their own on the bridge.
bool is_host_link_name(std::string_view name) {
  return name.size() == kMaxLinkName && name.starts_with(kLinkPrefix) &&
         name.find_first_not_of(kLinkDigits, kLinkPrefix.size()) == std::string_view::npos;
}

std::uint8_t protocol_number(std::string_view protocol) {
  if (protocol == "tcp") return IPPROTO_TCP;
  if (protocol == "udp") return IPPROTO_UDP;
  if (protocol == "sctp") return IPPROTO_SCTP;
  return 0;
}

std::vector<nft::PortElement> elements_of(const Lease& lease) {
  std::vector<nft::PortElement> out;
  for (const auto& port : lease.ports) {
    nft::PortElement element;
    element.protocol = protocol_number(port.protocol);
    const auto address = os::parse_ipv4(port.host_ip);
    element.any_address = !address || address->value == 0;
    if (!element.any_address) element.address = *address;
    element.port = port.host_port;
    element.pod_address = lease.address;
    element.pod_port = port.container_port;
    out.push_back(element);
  }
  return out;
}

Result<PortMapping> checked_port(PortMapping port) {
  port.protocol = to_lower(port.protocol);
  const std::string name = "host port " + std::to_string(port.host_port) + "/" + port.protocol;
  if (protocol_number(port.protocol) == 0) return fail(Code::kInvalid, name + ": the protocol is not tcp, udp or sctp");
  if (port.container_port == 0) return fail(Code::kInvalid, name + ": no container port");
  if (os::is_ipv6(port.host_ip)) {
    return fail(Code::kUnsupported, name + " on " + port.host_ip + ": the built-in network has no IPv6");
  }
  if (!port.host_ip.empty() && !os::parse_ipv4(port.host_ip)) {
    return fail(Code::kInvalid, name + ": not an address: " + port.host_ip);
  }
  return port;
}

}  // namespace

std::string host_link_name(std::string_view sandbox_id) {
  // FNV-1a, 64 bit: a name for people and look-ups, not a defence; ids are random.
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : sandbox_id) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  std::string name(kLinkPrefix);
  while (name.size() < kMaxLinkName) {
    name += kLinkDigits[hash & 31U];
    hash >>= 5U;
  }
  return name;
}

os::Mac mac_for(os::Ipv4 address) {
  const auto byte = [address](unsigned shift) { return static_cast<std::uint8_t>(address.value >> shift); };
  return {0x0a, 0x58, byte(24), byte(16), byte(8), byte(0)};
}

BuiltinNetwork::BuiltinNetwork(NetworkOptions options, os::Ipv4Subnet subnet, std::unique_ptr<LeaseStore> leases,
                               os::NetlinkSocket route, os::NetlinkSocket netfilter)
    : options_(std::move(options)),
      subnet_(subnet),
      leases_(std::move(leases)),
      route_(std::move(route)),
      rules_(std::move(netfilter), {options_.bridge, subnet, options_.masquerade, options_.host_ports}) {}

Result<std::unique_ptr<BuiltinNetwork>> BuiltinNetwork::open(const NetworkOptions& options) {
  if (!valid_link_name(options.bridge)) return fail(Code::kInvalid, "not a name for a bridge: " + options.bridge);
  if (options.mtu != 0 && (options.mtu < 68 || options.mtu > 65535)) {
    return fail(Code::kInvalid, "MTU " + std::to_string(options.mtu) + " is not between 68 and 65535");
  }
  const auto subnet = os::parse_ipv4_subnet(options.subnet);
  if (!subnet) return fail(Code::kInvalid, "not an IPv4 subnet without host bits: " + options.subnet);
  BERTH_ASSIGN(auto leases, LeaseStore::open(options.state_dir + "/leases", *subnet), "built-in network");
  BERTH_ASSIGN(auto route, os::NetlinkSocket::open(NETLINK_ROUTE), "built-in network");
  BERTH_ASSIGN(auto netfilter, os::NetlinkSocket::open(NETLINK_NETFILTER), "built-in network");
  return std::unique_ptr<BuiltinNetwork>(
      new BuiltinNetwork(options, *subnet, std::move(leases), std::move(route), std::move(netfilter)));
}

Result<std::vector<PortMapping>> BuiltinNetwork::published(const std::vector<PortMapping>& ports) const {
  std::vector<PortMapping> out;
  for (const auto& port : ports) {
    if (port.host_port == 0) continue;
    if (!options_.host_ports) return fail(Code::kPrecondition, "host ports are switched off in the configuration");
    BERTH_ASSIGN(auto checked, checked_port(port), "host ports");
    const auto same = std::ranges::find_if(out, [&checked](const auto& p) { return ports_collide(p, checked); });
    if (same == out.end()) {
      out.push_back(std::move(checked));
    } else if (same->container_port != checked.container_port) {
      return fail(Code::kInvalid,
                  "host port " + std::to_string(checked.host_port) + "/" + checked.protocol + " is asked for twice");
    }
  }
  return out;
}

Result<> BuiltinNetwork::prepare_bridge() {
  os::NetlinkBatch batch;
  os::put_create_bridge(batch, {options_.bridge, mac_for(leases_->gateway()), options_.mtu});
  BERTH_TRY(route_.transact(batch), "set up the bridge");
  BERTH_ASSIGN(const auto link, os::find_link(route_, options_.bridge), "set up the bridge");
  if (!link || link->kind != "bridge") {
    return fail(Code::kPrecondition, "link " + options_.bridge + " exists and is no bridge");
  }
  os::NetlinkBatch rest;
  os::put_no_ipv6_addresses(rest, options_.bridge);
  os::put_link_up(rest, options_.bridge);
  os::put_address(rest, link->index, leases_->gateway(), subnet_.prefix);
  BERTH_TRY(route_.transact(rest), "set up the bridge");
  // Written only when it must change: each write resets the interfaces' own settings.
  BERTH_ASSIGN(const auto forward, os::read_file(kForwardFile, 16), "look whether the node forwards");
  if (trim(forward) == "0") BERTH_TRY(os::write_existing(kForwardFile, "1"), "let the node forward");
  bridge_index_ = link->index;
  loopback_ports_ = false;
  return {};
}

Result<> BuiltinNetwork::prepare_rules() {
  std::vector<nft::PortElement> elements;
  for (const auto& lease : leases_->all()) {
    const auto own = elements_of(lease);
    elements.insert(elements.end(), own.begin(), own.end());
  }
  return rules_.install(elements);
}

// Makes or repairs what the pods share. Two cheap questions when all is there; the bridge is looked at again only when
// joining it fails.
Result<> BuiltinNetwork::prepare_shared() {
  const bool first = bridge_index_ == 0;
  if (first) BERTH_TRY(prepare_bridge(), "bridge " + options_.bridge);
  crashpoint("network.bridge");
  BERTH_ASSIGN(const bool intact, rules_.intact(), "rules of " + options_.bridge);
  if (first || !intact) BERTH_TRY(prepare_rules(), "rules of " + options_.bridge);
  return {};
}

Result<> BuiltinNetwork::prepare_host() {
  auto made = prepare_shared();
  fault_ = made ? "" : made.error().text();
  return made;
}

Result<> BuiltinNetwork::allow_loopback_ports() {
  if (loopback_ports_) return {};
  BERTH_TRY(os::write_existing("/proc/sys/net/ipv4/conf/" + options_.bridge + "/route_localnet", "1"),
            "allow host ports on 127.0.0.1");
  loopback_ports_ = true;
  return {};
}

Result<> BuiltinNetwork::make_veth(const PodNetwork& pod, const Lease& lease) {
  const std::string name = host_link_name(lease.sandbox_id);
  os::NetlinkBatch batch;
  os::put_create_veth(batch, {name, bridge_index_, kPodLink, pod.netns_fd, mac_for(lease.address), options_.mtu});
  os::put_port_options(batch, name, true);
  os::put_no_ipv6_addresses(batch, name);
  os::put_link_up(batch, name);
  return route_.transact(batch);
}

// The veth, and what it needs of the host.
Result<> BuiltinNetwork::link_pod(const PodNetwork& pod, const Lease& lease) {
  BERTH_TRY(prepare_host(), "prepare");
  auto made = make_veth(pod, lease);
  if (made) return {};
  // A link of that name that no lease knows, or a bridge that somebody deleted: once more from the start.
  BERTH_TRY(reaper_.remove(host_link_name(lease.sandbox_id)), "after a failure");
  if (made.error().code() != Code::kExists) {
    bridge_index_ = 0;
    BERTH_TRY(prepare_host(), "after a failure");
  }
  made = make_veth(pod, lease);
  return made;
}

// Runs on a thread inside the pod's namespace. All of it may be there from a former call.
Result<> BuiltinNetwork::configure_pod(int netns_fd, const Lease& lease) const {
  const os::Ipv4 gateway = leases_->gateway();
  const unsigned prefix = subnet_.prefix;
  return os::run_in_netns(netns_fd, [&lease, gateway, prefix]() -> Result<> {
    BERTH_ASSIGN(auto route, os::NetlinkSocket::open(NETLINK_ROUTE), "in the pod");
    BERTH_ASSIGN(const auto link, os::find_link(route, kPodLink), "in the pod");
    if (!link) return fail(Code::kNotFound, "the pod has no eth0");
    os::NetlinkBatch batch;
    os::put_link_up(batch, "lo");
    os::put_no_ipv6_addresses(batch, kPodLink);
    os::put_link_up(batch, kPodLink);
    os::put_address(batch, link->index, lease.address, prefix);
    os::put_default_route(batch, link->index, gateway);
    BERTH_TRY(route.transact(batch), "in the pod");
    return {};
  });
}

Result<> BuiltinNetwork::attach_host(const PodNetwork& pod, const Lease& lease, bool fresh) {
  const MutexLock hold(mutex_);
  const auto elements = elements_of(lease);
  bool linked = false;
  if (!fresh) {
    BERTH_ASSIGN(const auto link, os::find_link(route_, host_link_name(lease.sandbox_id)), "look for the old link");
    linked = link.has_value();
  }
  auto ready = linked ? prepare_host() : link_pod(pod, lease);
  if (!ready) return ready;
  BERTH_TRY(failpoint("network.linked"), "link");
  if (elements.empty()) return {};
  BERTH_TRY(allow_loopback_ports(), "host ports");
  return rules_.add_ports(elements);
}

Result<> BuiltinNetwork::attach(const PodNetwork& pod, const Lease& lease, bool fresh) {
  BERTH_TRY(attach_host(pod, lease, fresh), "on the node");
  BERTH_TRY(failpoint("network.ports"), "on the node");
  auto configured = configure_pod(pod.netns_fd, lease);
  crashpoint("network.configured");
  if (configured) return settle(lease);
  if (fresh || configured.error().code() != Code::kNotFound) return configured;
  // A former call's link leads into a namespace that is no more: begin anew with the same address.
  BERTH_TRY(reaper_.remove(host_link_name(lease.sandbox_id)), "remove the old link");
  BERTH_TRY(attach_host(pod, lease, false), "on the node");
  BERTH_TRY(configure_pod(pod.netns_fd, lease), "after a retry");
  return settle(lease);
}

// The host end and, with the first pod, the bridge got their carrier just now. Without this the pod's first packets
// could be lost, and a TCP connection would take a second more.
Result<> BuiltinNetwork::settle(const Lease& lease) {
  const std::array<std::string, 2> names{host_link_name(lease.sandbox_id), options_.bridge};
  const MutexLock hold(mutex_);
  return os::settle_carrier(route_, names);
}

Result<> BuiltinNetwork::detach(const Lease& lease) {
  {
    const MutexLock hold(mutex_);
    BERTH_TRY(rules_.remove_ports(elements_of(lease)), "take back the host ports of " + lease.sandbox_id);
  }
  BERTH_TRY(failpoint("network.unported"), "host ports");
  BERTH_TRY(reaper_.remove(host_link_name(lease.sandbox_id)), "remove the link of " + lease.sandbox_id);
  BERTH_TRY(failpoint("network.unlinked"), "link");
  // Last: whoever finds no lease knows that nothing else is left.
  return leases_->release(lease.sandbox_id);
}

Result<Attachment> BuiltinNetwork::add(const PodNetwork& pod) {
  BERTH_ASSIGN(auto ports, published(pod.ports), "pod " + pod.pod_namespace + "/" + pod.pod_name);
  auto lease = leases_->find(pod.sandbox_id);
  const bool fresh = !lease;
  if (fresh) {
    BERTH_ASSIGN(lease, leases_->reserve(pod.sandbox_id, std::move(ports)), "network of pod " + pod.pod_name);
    BERTH_TRY(failpoint("network.leased"), "network of pod " + pod.pod_name);
  }
  const auto attached = attach(pod, *lease, fresh);
  if (!attached) {
    if (auto undone = detach(*lease); !undone) {
      log_warn("undo of a failed network set-up failed too",
               {{"sandbox", pod.sandbox_id}, {"error", undone.error().text()}});
    }
    return fail(attached.error().in("network of pod " + pod.pod_namespace + "/" + pod.pod_name));
  }
  Attachment out;
  out.ips = {os::format_ipv4(lease->address)};
  out.gateway = os::format_ipv4(leases_->gateway());
  out.mac = os::format_mac(mac_for(lease->address));
  out.network = "berth";
  return out;
}

Result<> BuiltinNetwork::remove(const std::string& sandbox_id) {
  const auto lease = leases_->find(sandbox_id);
  if (!lease) return {};
  return detach(*lease);
}

std::vector<std::string> BuiltinNetwork::holders() const {
  std::vector<std::string> ids;
  for (const auto& lease : leases_->all()) ids.push_back(lease.sandbox_id);
  return ids;
}

Result<std::vector<std::string>> BuiltinNetwork::strays() {
  const MutexLock hold(mutex_);
  std::vector<std::string> names;
  BERTH_ASSIGN(const auto bridge, os::find_link(route_, options_.bridge), "look for the bridge");
  if (!bridge || bridge->kind != "bridge") return names;
  BERTH_ASSIGN(const auto links, os::list_links(route_), "list the links");
  std::set<std::string> held;
  // Under the lock and after the list: a lease is taken before its link is made.
  for (const auto& lease : leases_->all()) held.insert(host_link_name(lease.sandbox_id));
  for (const auto& link : links) {
    const bool ours = link.master == bridge->index && link.kind == "veth" && is_host_link_name(link.name);
    if (ours && !held.contains(link.name)) names.push_back(link.name);
  }
  return names;
}

Result<> BuiltinNetwork::remove_stray(const std::string& link) {
  BERTH_ASSIGN(const auto names, strays(), "look again");
  if (std::ranges::find(names, link) == names.end()) return {};
  return reaper_.remove(link);
}

Result<> BuiltinNetwork::teardown() {
  const MutexLock hold(mutex_);
  // Under the lock: add() takes its lease before it, and so is either seen here or makes the bridge anew after us.
  if (const auto left = leases_->all(); !left.empty()) {
    return fail(Code::kPrecondition, std::to_string(left.size()) + " pods hold addresses of " + options_.bridge);
  }
  BERTH_TRY(rules_.remove_table(), "tear down the built-in network");
  BERTH_ASSIGN(const auto link, os::find_link(route_, options_.bridge), "tear down the built-in network");
  // Only one that we made: it has our address.
  if (link && link->kind == "bridge" && link->mac == mac_for(leases_->gateway())) {
    os::NetlinkBatch batch;
    os::put_delete_link(batch, options_.bridge);
    BERTH_TRY(route_.transact(batch), "tear down the built-in network");
  }
  bridge_index_ = 0;
  loopback_ports_ = false;
  return {};
}

std::string BuiltinNetwork::fault() const {
  const MutexLock hold(mutex_);
  return fault_;
}

}  // namespace berth::network
