#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "os/inet.h"
#include "os/netlink.h"

/// The part of nftables that the built-in network needs, as nfnetlink messages: no library, no child process, some tens
/// of microseconds for a transaction. Everything is in family ip. Source: linux/netfilter/nf_tables.h and nft(8).
namespace berth::network::nft {

/// The expressions of one rule, in the order in which the kernel runs them. Made by Transaction::rule().
class Expressions final {
 public:
  explicit Expressions(os::NetlinkBatch& batch) : batch_(batch) {}
  /// `iifname "name"` / `oifname "name"`.
  Expressions& in_interface(std::string_view name);
  Expressions& out_interface(std::string_view name);
  /// `ip saddr subnet` / `ip daddr subnet`, or `!=` when not `equal`.
  Expressions& source(const os::Ipv4Subnet& subnet, bool equal = true);
  Expressions& destination(const os::Ipv4Subnet& subnet, bool equal = true);
  /// `fib daddr type local`.
  Expressions& destination_is_local();
  /// `meta mark & bit == bit`, and `meta mark set meta mark | bit`.
  Expressions& has_mark(std::uint32_t bit);
  Expressions& set_mark(std::uint32_t bit);
  /// `dnat ip to meta l4proto [. ip daddr] . th dport map @map`; a packet that is not in the map goes on.
  Expressions& dnat_by_map(std::string_view map, bool with_address);
  Expressions& masquerade();
  Expressions& drop();
  Expressions& jump(std::string_view chain);

 private:
  Expressions& meta_load(std::uint32_t key, std::uint32_t reg);
  Expressions& payload_load(std::uint32_t base, std::uint32_t offset, std::uint32_t length, std::uint32_t reg);
  Expressions& compare(bool equal, std::span<const std::byte> value);
  Expressions& bitwise(std::uint32_t mask, std::uint32_t flip);
  Expressions& interface_name(std::uint32_t key, std::string_view name);
  Expressions& address(std::uint32_t offset, const os::Ipv4Subnet& subnet, bool equal);
  Expressions& verdict(std::uint32_t code, std::string_view chain);
  [[nodiscard]] std::size_t open(std::string_view name);
  void close(std::size_t mark);

  os::NetlinkBatch& batch_;
  std::size_t data_ = 0;
};

/// Where a base chain hooks in.
struct Hook {
  std::string type;  ///< "nat" or "filter"
  std::uint32_t number = 0;
  std::int32_t priority = 0;
};

/// An entry of a port map: {protocol, [address,] port} -> {pod address, pod port}.
struct PortElement {
  std::uint8_t protocol = 0;  ///< IPPROTO_TCP, ...
  bool any_address = true;    ///< in which map it belongs
  os::Ipv4 address;
  std::uint16_t port = 0;
  os::Ipv4 pod_address;
  std::uint16_t pod_port = 0;
};

/// One atomic change of a table: all of it or nothing. Order counts.
class Transaction final {
 public:
  explicit Transaction(std::string table);
  void add_table();
  void delete_table();
  void add_chain(const std::string& chain);
  void add_base_chain(const std::string& chain, const Hook& hook);
  /// A map from {protocol, [address,] port} to {address, port}.
  void add_port_map(const std::string& map, bool with_address);
  /// Fails the transaction with kExists when a key is there already with another target; the same element is success.
  void add_elements(const std::string& map, std::span<const PortElement> elements);
  void delete_elements(const std::string& map, std::span<const PortElement> elements);
  template <class Fill>
  void rule(const std::string& chain, Fill fill) {
    const auto mark = begin_rule(chain);
    Expressions expressions(batch_);
    fill(expressions);
    end_rule(mark);
  }
  /// The last message added may fail with this errno and all still counts as success (use only when it stands alone).
  void tolerate(int errno_value) { batch_.tolerate(errno_value); }
  /// Sends it. Errors: kExists, kNotFound (ENOENT), kDenied, kUnsupported as the kernel says.
  Result<> commit(os::NetlinkSocket& netfilter);

 private:
  void begin(std::uint16_t message, std::uint16_t flags, std::string step);
  [[nodiscard]] std::size_t begin_rule(const std::string& chain);
  void end_rule(std::size_t mark);
  void elements(std::uint16_t message, std::uint16_t flags, const std::string& map,
                std::span<const PortElement> elements);

  os::NetlinkBatch batch_;
  std::string table_;
  std::uint32_t next_map_id_ = 0;
};

/// A number that changes whenever anybody changes any nftables rule in the namespace.
Result<std::uint32_t> generation(os::NetlinkSocket& netfilter);
/// Whether the table exists.
Result<bool> table_exists(os::NetlinkSocket& netfilter, const std::string& table);

}  // namespace berth::network::nft
