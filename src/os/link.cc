#include "os/link.h"

#include <arpa/inet.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>

namespace berth::os {
namespace {

ifinfomsg link_header(unsigned flags = 0) {
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_flags = flags;
  header.ifi_change = flags;
  return header;
}

void put_mac(NetlinkBatch& batch, const Mac& mac) {
  if (mac != Mac{}) batch.put_value(IFLA_ADDRESS, mac);
}

void put_mtu(NetlinkBatch& batch, unsigned mtu) {
  if (mtu != 0) batch.put_value(IFLA_MTU, std::uint32_t{mtu});
}

void put_look(NetlinkBatch& batch, std::string_view name) {
  batch.begin(RTM_GETLINK, 0, link_header(), "look for link " + std::string(name));
  batch.tolerate(ENODEV);
  batch.put_string(IFLA_IFNAME, name);
  batch.end();
}

Link parse_link(std::span<const std::byte> payload) {
  const auto header = attribute_value<ifinfomsg>(payload);
  Link link;
  link.index = header.ifi_index;
  link.up = (header.ifi_flags & IFF_UP) != 0;
  for_each_attribute(payload.subspan(std::min(sizeof header, payload.size())),
                     [&link](std::uint16_t type, std::span<const std::byte> value) {
                       if (type == IFLA_IFNAME) link.name = attribute_string(value);
                       if (type == IFLA_MASTER) link.master = attribute_value<int>(value);
                       if (type == IFLA_MTU) link.mtu = attribute_value<unsigned>(value);
                       if (type == IFLA_ADDRESS) link.mac = attribute_value<Mac>(value);
                       if (type != IFLA_LINKINFO) return;
                       for_each_attribute(value, [&link](std::uint16_t inner, std::span<const std::byte> text) {
                         if (inner == IFLA_INFO_KIND) link.kind = attribute_string(text);
                       });
                     });
  return link;
}

LinkAddress parse_address(const ifaddrmsg& header, std::span<const std::byte> payload) {
  LinkAddress out;
  out.family = header.ifa_family;
  out.prefix = header.ifa_prefixlen;
  out.scope = header.ifa_scope;
  out.flags = header.ifa_flags;
  for_each_attribute(payload.subspan(std::min(sizeof header, payload.size())),
                     [&out](std::uint16_t type, std::span<const std::byte> value) {
                       const std::vector<std::byte> bytes(value.begin(), value.end());
                       if (type == IFA_LOCAL) out.local = bytes;
                       if (type == IFA_ADDRESS) out.address = bytes;
                       if (type == IFA_BROADCAST) out.broadcast = bytes;
                       if (type == IFA_RT_PRIORITY) out.metric = attribute_value<std::uint32_t>(value);
                       // The header has room for the first eight flags only.
                       if (type == IFA_FLAGS) out.flags = attribute_value<std::uint32_t>(value);
                     });
  return out;
}

}  // namespace

Result<std::optional<Link>> find_link(NetlinkSocket& route, std::string_view name) {
  NetlinkBatch batch;
  put_look(batch, name);
  std::optional<Link> found;
  auto asked = route.transact(batch, [&found](std::uint16_t type, std::span<const std::byte> payload) {
    if (type == RTM_NEWLINK) found = parse_link(payload);
  });
  if (!asked) return fail(std::move(asked).error());
  return found;
}

Result<std::vector<Link>> list_links(NetlinkSocket& route) {
  NetlinkBatch request;
  request.begin(RTM_GETLINK, NLM_F_DUMP, link_header(), "list links");
  request.end();
  std::vector<Link> links;
  BERTH_TRY(route.dump(request,
                       [&links](std::uint16_t type, std::span<const std::byte> payload) {
                         if (type == RTM_NEWLINK) links.push_back(parse_link(payload));
                       }),
            "network");
  return links;
}

Result<std::vector<LinkAddress>> list_addresses(NetlinkSocket& route, int index) {
  NetlinkBatch request;
  request.begin(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{}, "list addresses");
  request.end();
  std::vector<LinkAddress> addresses;
  BERTH_TRY(route.dump(request,
                       [&](std::uint16_t type, std::span<const std::byte> payload) {
                         const auto header = attribute_value<ifaddrmsg>(payload);
                         if (type != RTM_NEWADDR || header.ifa_index != static_cast<std::uint32_t>(index)) return;
                         addresses.push_back(parse_address(header, payload));
                       }),
            "network");
  return addresses;
}

Result<> settle_carrier(NetlinkSocket& route, std::span<const std::string> names) {
  NetlinkBatch batch;
  for (const auto& name : names) put_look(batch, name);
  return route.transact(batch);
}

void put_create_bridge(NetlinkBatch& batch, const BridgeSpec& spec) {
  batch.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header(), "create bridge " + spec.name);
  batch.tolerate(EEXIST);
  batch.put_string(IFLA_IFNAME, spec.name);
  put_mac(batch, spec.mac);
  put_mtu(batch, spec.mtu);
  const auto info = batch.nest(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_KIND, "bridge");
  const auto data = batch.nest(IFLA_INFO_DATA);
  batch.put_value(IFLA_BR_STP_STATE, std::uint32_t{0});
  batch.put_value(IFLA_BR_FORWARD_DELAY, std::uint32_t{0});
  batch.put_value(IFLA_BR_MCAST_SNOOPING, std::uint8_t{0});
  batch.end_nest(data);
  batch.end_nest(info);
  batch.end();
}

void put_create_veth(NetlinkBatch& batch, const VethSpec& spec) {
  batch.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header(), "create veth " + spec.host_name);
  batch.put_string(IFLA_IFNAME, spec.host_name);
  put_mtu(batch, spec.mtu);
  if (spec.master != 0) batch.put_value(IFLA_MASTER, std::int32_t{spec.master});
  const auto info = batch.nest(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_KIND, "veth");
  const auto data = batch.nest(IFLA_INFO_DATA);
  const auto peer = batch.nest(VETH_INFO_PEER);
  // Not up at once: the driver refuses (ENOTCONN) as long as the two ends are not joined.
  const ifinfomsg peer_header = link_header();
  batch.put_raw(std::as_bytes(std::span(&peer_header, 1)));
  batch.put_string(IFLA_IFNAME, spec.pod_name);
  put_mac(batch, spec.pod_mac);
  put_mtu(batch, spec.mtu);
  batch.put_value(IFLA_NET_NS_FD, std::int32_t{spec.pod_netns_fd});
  batch.end_nest(peer);
  batch.end_nest(data);
  batch.end_nest(info);
  batch.end();
}

void put_port_options(NetlinkBatch& batch, const std::string& name, bool hairpin) {
  batch.begin(RTM_NEWLINK, 0, link_header(), "set the port options of " + name);
  batch.put_string(IFLA_IFNAME, name);
  const auto info = batch.nest(IFLA_LINKINFO);
  batch.put_string(IFLA_INFO_SLAVE_KIND, "bridge");
  const auto data = batch.nest(IFLA_INFO_SLAVE_DATA);
  batch.put_value(IFLA_BRPORT_MODE, static_cast<std::uint8_t>(hairpin ? 1 : 0));
  batch.end_nest(data);
  batch.end_nest(info);
  batch.end();
}

void put_link_up(NetlinkBatch& batch, const std::string& name) {
  batch.begin(RTM_NEWLINK, 0, link_header(IFF_UP), "set " + name + " up");
  batch.put_string(IFLA_IFNAME, name);
  batch.end();
}

void put_link_up(NetlinkBatch& batch, int index) {
  ifinfomsg header = link_header(IFF_UP);
  header.ifi_index = index;
  batch.begin(RTM_NEWLINK, 0, header, "set link " + std::to_string(index) + " up");
  batch.end();
}

void put_no_ipv6_addresses(NetlinkBatch& batch, const std::string& name) {
  batch.begin(RTM_NEWLINK, 0, link_header(), "keep IPv6 addresses off " + name);
  // A kernel booted without IPv6 does not know the family.
  batch.tolerate(EAFNOSUPPORT);
  batch.put_string(IFLA_IFNAME, name);
  const auto all = batch.nest(IFLA_AF_SPEC);
  const auto inet6 = batch.nest(AF_INET6);
  batch.put_value(IFLA_INET6_ADDR_GEN_MODE, std::uint8_t{IN6_ADDR_GEN_MODE_NONE});
  batch.end_nest(inet6);
  batch.end_nest(all);
  batch.end();
}

void put_delete_link(NetlinkBatch& batch, const std::string& name) {
  batch.begin(RTM_DELLINK, 0, link_header(), "delete link " + name);
  batch.tolerate(ENODEV);
  batch.put_string(IFLA_IFNAME, name);
  batch.end();
}

void put_move_link(NetlinkBatch& batch, int index, const std::string& name, int netns_fd) {
  ifinfomsg header = link_header();
  header.ifi_index = index;
  batch.begin(RTM_NEWLINK, 0, header, "move the link");
  batch.put_string(IFLA_IFNAME, name);
  batch.put_value(IFLA_NET_NS_FD, std::int32_t{netns_fd});
  batch.end();
}

void put_same_address(NetlinkBatch& batch, int index, const LinkAddress& address) {
  constexpr std::uint32_t kUserFlags =
      IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN;
  ifaddrmsg header{};
  header.ifa_family = address.family;
  header.ifa_prefixlen = address.prefix;
  header.ifa_scope = address.scope;
  header.ifa_index = static_cast<std::uint32_t>(index);
  batch.begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, header, "add an address");
  if (!address.local.empty()) batch.put(IFA_LOCAL, address.local);
  if (!address.address.empty()) batch.put(IFA_ADDRESS, address.address);
  if (!address.broadcast.empty()) batch.put(IFA_BROADCAST, address.broadcast);
  if (address.metric != 0) batch.put_value(IFA_RT_PRIORITY, address.metric);
  batch.put_value(IFA_FLAGS, address.flags & kUserFlags);
  batch.end();
}

void put_address(NetlinkBatch& batch, int index, Ipv4 address, unsigned prefix) {
  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  header.ifa_prefixlen = static_cast<std::uint8_t>(prefix);
  header.ifa_index = static_cast<std::uint32_t>(index);
  batch.begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, header,
              "add address " + format_ipv4(address) + "/" + std::to_string(prefix));
  batch.tolerate(EEXIST);
  batch.put_be32(IFA_LOCAL, address.value);
  batch.put_be32(IFA_ADDRESS, address.value);
  batch.put_be32(IFA_BROADCAST, Ipv4Subnet{address, prefix}.broadcast().value);
  batch.end();
}

void put_default_route(NetlinkBatch& batch, int index, Ipv4 gateway) {
  rtmsg header{};
  header.rtm_family = AF_INET;
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = RTPROT_STATIC;
  header.rtm_scope = RT_SCOPE_UNIVERSE;
  header.rtm_type = RTN_UNICAST;
  batch.begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, header,
              "add the default route through " + format_ipv4(gateway));
  batch.put_be32(RTA_GATEWAY, gateway.value);
  batch.put_value(RTA_OIF, std::int32_t{index});
  batch.end();
}

}  // namespace berth::os
