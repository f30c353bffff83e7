#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "os/inet.h"
#include "os/netlink.h"

/// Links, addresses and routes by rtnetlink. The put_* functions add one message to a batch, so that a pod's whole
/// set-up is one or two system calls; the others send at once. All names are at most 15 bytes. Source: rtnetlink(7),
/// linux/if_link.h.
namespace berth::os {

struct Link {
  int index = 0;
  std::string name;
  std::string kind;  ///< "bridge", "veth", ...; empty for a physical one
  int master = 0;    ///< index of the bridge it is a port of, or 0
  bool up = false;
  unsigned mtu = 0;
  Mac mac{};
};

/// The link of that name in the socket's namespace, or nothing.
Result<std::optional<Link>> find_link(NetlinkSocket& route, std::string_view name);

/// Makes the links of these names pass packets now, if their carrier is on: a carrier that came takes effect in a
/// kernel worker, some time later, and until then packets are dropped; a look at the link does that work at once
/// (kernels before 6.8: the worker alone does it). Absent links are passed over.
Result<> settle_carrier(NetlinkSocket& route, std::span<const std::string> names);

/// All links of the socket's namespace.
Result<std::vector<Link>> list_links(NetlinkSocket& route);

/// An address of a link, of any family, as the kernel told it.
struct LinkAddress {
  std::uint8_t family = 0;
  std::uint8_t prefix = 0;
  std::uint8_t scope = 0;
  std::uint32_t flags = 0;  ///< IFA_F_*
  std::uint32_t metric = 0;
  /// In network byte order, 4 or 16 bytes; empty: none.
  std::vector<std::byte> local;
  std::vector<std::byte> address;
  std::vector<std::byte> broadcast;
};
Result<std::vector<LinkAddress>> list_addresses(NetlinkSocket& route, int index);

struct BridgeSpec {
  std::string name;
  Mac mac{};         ///< set once, so that it does not follow the ports
  unsigned mtu = 0;  ///< 0: the kernel's
};
/// An existing link of the name is success here: look at what it is by find_link().
/// Spanning tree off, no forward delay, no multicast snooping.
void put_create_bridge(NetlinkBatch& batch, const BridgeSpec& spec);

struct VethSpec {
  std::string host_name;
  int master = 0;  ///< index of the bridge that the host end joins, 0: none
  std::string pod_name;
  int pod_netns_fd = -1;  ///< borrowed; the other end is made in there
  Mac pod_mac{};
  unsigned mtu = 0;
};
/// Both ends in one message, down: the host end a port of `master`, the pod's end in its namespace.
/// EEXIST means that one of the two names is taken.
void put_create_veth(NetlinkBatch& batch, const VethSpec& spec);
/// A bridge port sends packets back out where they came from (a pod reaching itself).
void put_port_options(NetlinkBatch& batch, const std::string& name, bool hairpin);

void put_link_up(NetlinkBatch& batch, const std::string& name);
void put_link_up(NetlinkBatch& batch, int index);
/// No IPv6 link-local address is made for the link when it comes up: nothing waits for duplicate address detection.
void put_no_ipv6_addresses(NetlinkBatch& batch, const std::string& name);
/// Deletes by name; an absent one is success.
void put_delete_link(NetlinkBatch& batch, const std::string& name);
/// Link `index` goes, as `name`, into the namespace `netns_fd` (borrowed); a "%d" in the name is a number that the
/// kernel finds. What it loses on the way: that it is up, its addresses and its routes. Source: network_namespaces(7).
void put_move_link(NetlinkBatch& batch, int index, const std::string& name, int netns_fd);
/// As list_addresses() gave it, but on link `index`; only flags that a user may set are kept. EEXIST is an error.
void put_same_address(NetlinkBatch& batch, int index, const LinkAddress& address);
/// `address`/`prefix` on link `index`; present already is success.
void put_address(NetlinkBatch& batch, int index, Ipv4 address, unsigned prefix);
/// The default route through `gateway`; an existing one is replaced.
void put_default_route(NetlinkBatch& batch, int index, Ipv4 gateway);

}  // namespace berth::os
