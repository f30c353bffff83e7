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
