#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace berth::os {

/// An IPv4 address as a number in host byte order: 10.0.0.1 is 0x0a000001.
struct Ipv4 {
  std::uint32_t value = 0;
  friend bool operator==(Ipv4, Ipv4) = default;
  friend auto operator<=>(Ipv4, Ipv4) = default;
};

/// A network of addresses; `base` has no host bits. 0 <= prefix <= 32.
struct Ipv4Subnet {
  Ipv4 base;
  unsigned prefix = 0;
  [[nodiscard]] std::uint32_t mask() const { return prefix == 0 ? 0 : ~std::uint32_t{0} << (32 - prefix); }
  [[nodiscard]] bool contains(Ipv4 address) const { return (address.value & mask()) == base.value; }
  [[nodiscard]] Ipv4 broadcast() const { return {base.value | ~mask()}; }
  friend bool operator==(const Ipv4Subnet&, const Ipv4Subnet&) = default;
};

using Mac = std::array<std::uint8_t, 6>;

/// "10.0.0.1", four decimal parts and nothing else; nothing when it is not one.
[[nodiscard]] std::optional<Ipv4> parse_ipv4(std::string_view text);
[[nodiscard]] std::string format_ipv4(Ipv4 address);
/// "10.0.0.0/16" with no host bits set.
[[nodiscard]] std::optional<Ipv4Subnet> parse_ipv4_subnet(std::string_view text);
[[nodiscard]] std::string format_ipv4_subnet(const Ipv4Subnet& subnet);
/// Whether `text` is an IPv6 address in any of its textual forms, without zone.
[[nodiscard]] bool is_ipv6(std::string_view text);
/// "0a:58:0a:00:00:01".
[[nodiscard]] std::string format_mac(const Mac& mac);

}  // namespace berth::os
