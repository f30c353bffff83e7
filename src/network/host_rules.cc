#include "network/host_rules.h"

#include <linux/netfilter.h>

#include <cerrno>

namespace berth::network {
namespace {

// Priorities by their names in nft(8): raw, dstnat, srcnat.
constexpr std::int32_t kRaw = -300;
constexpr std::int32_t kDstNat = -100;
constexpr std::int32_t kSrcNat = 100;

constexpr os::Ipv4Subnet kLoopback{{0x7f000000}, 8};
constexpr os::Ipv4Subnet kMulticast{{0xe0000000}, 4};

// "This connection needs a masqueraded source": the bit that the reference portmap plugin uses for the same.
constexpr std::uint32_t kHairpinMark = 0x2000;

const std::string kByAddress = "ports_by_address";
const std::string kAnyAddress = "ports";

std::string table_name(const std::string& bridge) {
  return bridge == "berth0" ? "berth" : "berth-" + bridge;
}

struct Sorted {
  std::vector<nft::PortElement> any;
  std::vector<nft::PortElement> by_address;
};
Sorted sort_by_map(std::span<const nft::PortElement> elements) {
  Sorted out;
  for (const auto& element : elements) (element.any_address ? out.any : out.by_address).push_back(element);
  return out;
}

void add_masquerade(nft::Transaction& change, const RulesSpec& spec) {
  change.rule("postrouting", [&spec](nft::Expressions& rule) {
    rule.source(spec.subnet).destination(spec.subnet, false).destination(kMulticast, false).masquerade();
  });
}

void add_host_ports(nft::Transaction& change, const RulesSpec& spec, const Sorted& elements) {
  change.add_port_map(kByAddress, true);
  change.add_port_map(kAnyAddress, false);
  change.add_chain("host_ports");
  change.add_base_chain("guard", {"filter", NF_INET_PRE_ROUTING, kRaw});
  change.add_base_chain("prerouting", {"nat", NF_INET_PRE_ROUTING, kDstNat});
  change.add_base_chain("output", {"nat", NF_INET_LOCAL_OUT, kDstNat});
  // route_localnet on the bridge, which host ports on 127.0.0.1 need, would let a pod reach what listens on the node's
  // loopback only. Answers to our own connections carry the bridge's address at this point and pass.
  change.rule("guard",
              [&spec](nft::Expressions& rule) { rule.in_interface(spec.bridge).destination(kLoopback).drop(); });
  for (const char* chain : {"prerouting", "output"}) {
    change.rule(chain, [](nft::Expressions& rule) { rule.destination_is_local().jump("host_ports"); });
  }
  // A pod that reaches itself or a neighbour through a host port must get the answer through the node, not directly.
  change.rule("host_ports", [&spec](nft::Expressions& rule) { rule.source(spec.subnet).set_mark(kHairpinMark); });
  change.rule("host_ports", [](nft::Expressions& rule) { rule.dnat_by_map(kByAddress, true); });
  change.rule("host_ports", [](nft::Expressions& rule) { rule.dnat_by_map(kAnyAddress, false); });
  change.rule("postrouting", [&spec](nft::Expressions& rule) {
    rule.has_mark(kHairpinMark).source(spec.subnet).out_interface(spec.bridge).masquerade();
  });
  change.rule("postrouting",
              [&spec](nft::Expressions& rule) { rule.source(kLoopback).out_interface(spec.bridge).masquerade(); });
  change.add_elements(kByAddress, elements.by_address);
  change.add_elements(kAnyAddress, elements.any);
}

}  // namespace

HostRules::HostRules(os::NetlinkSocket netfilter, RulesSpec spec)
    : netfilter_(std::move(netfilter)), spec_(std::move(spec)), table_(table_name(spec_.bridge)) {}

Result<> HostRules::install(std::span<const nft::PortElement> elements) {
  nft::Transaction change(table_);
  // Added first, so that the deletion of what may be there from before cannot fail.
  change.add_table();
  change.delete_table();
  change.add_table();
  change.add_base_chain("postrouting", {"nat", NF_INET_POST_ROUTING, kSrcNat});
  if (spec_.masquerade) add_masquerade(change, spec_);
  if (spec_.host_ports) add_host_ports(change, spec_, sort_by_map(elements));
  BERTH_TRY(change.commit(netfilter_), "install the rules of " + spec_.bridge);
  return {};
}

Result<bool> HostRules::intact() {
  BERTH_ASSIGN(const std::uint32_t now, nft::generation(netfilter_), "check the rules");
  if (generation_ != 0 && now == generation_) return true;
  BERTH_ASSIGN(const bool there, nft::table_exists(netfilter_, table_), "check the rules");
  if (there) generation_ = now;
  return there;
}

Result<> HostRules::add_ports(std::span<const nft::PortElement> elements) {
  if (elements.empty()) return {};
  const Sorted sorted = sort_by_map(elements);
  nft::Transaction change(table_);
  change.add_elements(kByAddress, sorted.by_address);
  change.add_elements(kAnyAddress, sorted.any);
  BERTH_TRY(change.commit(netfilter_), "publish host ports");
  return {};
}

Result<> HostRules::remove_ports(std::span<const nft::PortElement> elements) {
  if (elements.empty()) return {};
  const Sorted sorted = sort_by_map(elements);
  nft::Transaction all(table_);
  all.delete_elements(kByAddress, sorted.by_address);
  all.delete_elements(kAnyAddress, sorted.any);
  auto done = all.commit(netfilter_);
  if (done || done.error().errno_value() != ENOENT) return done;
  // One of them is absent, so the whole change was refused: one by one, absent ones passing.
  for (const auto& element : elements) {
    nft::Transaction one(table_);
    one.delete_elements(element.any_address ? kAnyAddress : kByAddress, std::span(&element, 1));
    one.tolerate(ENOENT);
    BERTH_TRY(one.commit(netfilter_), "take back a host port");
  }
  return {};
}

Result<> HostRules::remove_table() {
  nft::Transaction change(table_);
  change.delete_table();
  change.tolerate(ENOENT);
  BERTH_TRY(change.commit(netfilter_), "remove the rules of " + spec_.bridge);
  generation_ = 0;
  return {};
}

}  // namespace berth::network
