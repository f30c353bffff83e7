#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "network/network.h"

namespace berth::network {

struct CniInterface {
  std::string name;
  std::string mac;
  std::string sandbox;  ///< empty: on the node
  std::uint32_t mtu = 0;
  std::string socket_path;
  std::string pci_id;
};
struct CniAddress {
  std::string address;                   ///< with prefix length, checked: "10.1.0.5/16", "fd00::5/64"
  std::string gateway;                   ///< may be empty
  std::optional<std::size_t> interface;  ///< index into interfaces, checked
  [[nodiscard]] bool ipv6() const { return address.find(':') != std::string::npos; }
};
struct CniRoute {
  std::string destination;
  std::string gateway;
  std::uint32_t mtu = 0;
  std::uint32_t advmss = 0;
  std::optional<std::uint32_t> priority;
  std::optional<std::uint32_t> table;
  std::optional<std::uint32_t> scope;
};

/// A plugin's result, whatever version it was written in.
struct CniResult {
  std::string version;
  std::vector<CniInterface> interfaces;
  std::vector<CniAddress> ips;
  std::vector<CniRoute> routes;
  DnsSettings dns;
  std::string dns_domain;
};

/// Parses what a plugin printed at ADD. `expected`: the version it was asked to speak; a result without cniVersion is
/// of that one. Versions 0.1.0 to 1.1.0. Errors: kExhausted over 1 MiB, too deep, too many items; kCorrupt not JSON;
/// kUnsupported an unknown version; kInvalid a field that makes no sense, named.
/// Source: CNI specification 1.1 section 5, 0.4.0 and 0.2.0 for the older forms.
Result<CniResult> parse_cni_result(std::string_view text, std::string_view expected);

/// The result as text in `version` (0.2.0 to 1.1.0); fields which that version does not have are left out. 0.2.0 has
/// one address of each family.
std::string format_cni_result(const CniResult& result, std::string_view version);

/// What the pod got: the addresses on its own interfaces, those of `ifname` first.
Attachment attachment_of(const CniResult& result, std::string_view ifname, std::string_view network);

/// What a plugin says when it fails.
struct CniPluginError {
  unsigned code = 0;
  std::string message;
  std::string details;
};
/// Nothing when `text` is no error object. Texts are cut to 1 KiB, control characters replaced.
std::optional<CniPluginError> parse_cni_error(std::string_view text);

/// `text` fit for an error message or a log line: at most `most` bytes (the last ones), no control characters.
std::string printable_tail(std::string_view text, std::size_t most);

}  // namespace berth::network
