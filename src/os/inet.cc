#include "os/inet.h"

#include <arpa/inet.h>

#include "base/strings.h"

namespace berth::os {

std::optional<Ipv4> parse_ipv4(std::string_view text) {
  if (text.empty() || text.size() >= INET_ADDRSTRLEN) return std::nullopt;
  in_addr address{};
  if (::inet_pton(AF_INET, std::string(text).c_str(), &address) != 1) return std::nullopt;
  return Ipv4{ntohl(address.s_addr)};
}

std::string format_ipv4(Ipv4 address) {
  const std::uint32_t v = address.value;
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (!out.empty()) out += '.';
    out += std::to_string((v >> shift) & 0xFFU);
  }
  return out;
}

std::optional<Ipv4Subnet> parse_ipv4_subnet(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto base = parse_ipv4(text.substr(0, slash));
  const auto prefix = parse_number<unsigned>(text.substr(slash + 1));
  if (!base || !prefix || *prefix > 32) return std::nullopt;
  const Ipv4Subnet subnet{*base, *prefix};
  if (!subnet.contains(*base)) return std::nullopt;
  return subnet;
}

std::string format_ipv4_subnet(const Ipv4Subnet& subnet) {
  return format_ipv4(subnet.base) + "/" + std::to_string(subnet.prefix);
}

bool is_ipv6(std::string_view text) {
  if (text.empty() || text.size() >= INET6_ADDRSTRLEN) return false;
  in6_addr address{};
  return ::inet_pton(AF_INET6, std::string(text).c_str(), &address) == 1;
}

std::string format_mac(const Mac& mac) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (const std::uint8_t byte : mac) {
    if (!out.empty()) out += ':';
    out += kDigits[byte >> 4U];
    out += kDigits[byte & 0xFU];
  }
  return out;
}

}  // namespace berth::os
