#pragma once
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "network/nft.h"
#include "os/inet.h"
#include "os/netlink.h"

namespace berth::network {

/// What the built-in network's table is made from.
struct RulesSpec {
  std::string bridge;
  os::Ipv4Subnet subnet;
  bool masquerade = true;
  bool host_ports = true;
};

/// The built-in network's one nftables table, `ip berth` for bridge berth0 (else `ip berth-<bridge>`): a fixed number
/// of rules; pods are entries of two maps. Notices when somebody flushed the firewall. One caller at a time.
class HostRules final {
 public:
  HostRules(os::NetlinkSocket netfilter, RulesSpec spec);

  [[nodiscard]] const std::string& table() const { return table_; }
  /// Makes or remakes the whole table with these entries, in one atomic change.
  Result<> install(std::span<const nft::PortElement> elements);
  /// Whether the table is there. One cheap question when nobody changed any rule since the last time.
  Result<bool> intact();
  /// Entries that are there already are success; kExists when one of the ports leads elsewhere; then none is added.
  Result<> add_ports(std::span<const nft::PortElement> elements);
  /// Entries that are absent are success, also when the table is gone.
  Result<> remove_ports(std::span<const nft::PortElement> elements);
  Result<> remove_table();

 private:
  os::NetlinkSocket netfilter_;
  RulesSpec spec_;
  std::string table_;
  std::uint32_t generation_ = 0;  ///< as of which the table was seen last; 0: never
};

}  // namespace berth::network
