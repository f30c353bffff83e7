#include "network/cni_result.h"

#include <algorithm>
#include <array>

#include "base/strings.h"
#include "network/cni_conf.h"
#include "network/json.h"
#include "os/inet.h"

namespace berth::network {
namespace {

constexpr JsonLimits kLimits{1U << 20, 32};
constexpr std::size_t kMaxInterfaces = 256;
constexpr std::size_t kMaxAddresses = 256;
constexpr std::size_t kMaxRoutes = 4096;
constexpr std::size_t kMaxDns = 64;
constexpr std::size_t kMaxErrorText = 1024;

bool old_form(std::string_view version) {
  return version == "0.1.0" || version == "0.2.0";
}

bool valid_address(const std::string& text) {
  return os::parse_ipv4(text).has_value() || os::is_ipv6(text);
}

bool valid_prefixed(const std::string& text) {
  const auto slash = text.find('/');
  if (slash == std::string::npos || !valid_address(text.substr(0, slash))) return false;
  const auto prefix = parse_number<unsigned>(std::string_view(text).substr(slash + 1));
  return prefix && *prefix <= (text.find(':') == std::string::npos ? 32U : 128U);
}

Result<std::string> checked_gateway(const Json& json, const char* key) {
  BERTH_ASSIGN(std::string gateway, json_string(json, key), "gateway");
  if (!gateway.empty() && !valid_address(gateway)) return fail(Code::kInvalid, std::string(key) + " is not an address");
  return gateway;
}

Result<std::optional<std::uint32_t>> number(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return std::nullopt;
  if (!found->is_number_integer() || found->get<double>() < 0 || found->get<double>() > 4294967295.0) {
    return fail(Code::kInvalid, std::string(key) + " is not a number of 32 bits");
  }
  return found->get<std::uint32_t>();
}

Result<CniInterface> parse_interface(const Json& json) {
  if (!json.is_object()) return fail(Code::kInvalid, "not an object");
  CniInterface out;
  BERTH_ASSIGN(out.name, json_string(json, "name"), "interface");
  BERTH_ASSIGN(out.mac, json_string(json, "mac"), "interface");
  BERTH_ASSIGN(out.sandbox, json_string(json, "sandbox"), "interface");
  BERTH_ASSIGN(out.socket_path, json_string(json, "socketPath"), "interface");
  BERTH_ASSIGN(out.pci_id, json_string(json, "pciID"), "interface");
  BERTH_ASSIGN(const auto mtu, number(json, "mtu"), "interface");
  out.mtu = mtu.value_or(0);
  return out;
}

Result<CniAddress> parse_address(const Json& json, std::size_t interfaces) {
  if (!json.is_object()) return fail(Code::kInvalid, "not an object");
  CniAddress out;
  BERTH_ASSIGN(out.address, json_string(json, "address"), "address");
  if (!valid_prefixed(out.address)) return fail(Code::kInvalid, "not an address with a prefix length");
  BERTH_ASSIGN(out.gateway, checked_gateway(json, "gateway"), "address");
  BERTH_ASSIGN(const auto index, number(json, "interface"), "address");
  if (index && *index >= interfaces) return fail(Code::kInvalid, "interface is not an index into interfaces");
  if (index) out.interface = *index;
  return out;
}

Result<CniRoute> parse_route(const Json& json) {
  if (!json.is_object()) return fail(Code::kInvalid, "not an object");
  CniRoute out;
  BERTH_ASSIGN(out.destination, json_string(json, "dst"), "route");
  if (!valid_prefixed(out.destination)) return fail(Code::kInvalid, "dst is not a network");
  BERTH_ASSIGN(out.gateway, checked_gateway(json, "gw"), "route");
  BERTH_ASSIGN(const auto mtu, number(json, "mtu"), "route");
  BERTH_ASSIGN(const auto advmss, number(json, "advmss"), "route");
  out.mtu = mtu.value_or(0);
  out.advmss = advmss.value_or(0);
  BERTH_ASSIGN(out.priority, number(json, "priority"), "route");
  BERTH_ASSIGN(out.table, number(json, "table"), "route");
  BERTH_ASSIGN(out.scope, number(json, "scope"), "route");
  return out;
}

template <class Item, class Parse>
Result<std::vector<Item>> parse_list(const Json& json, const char* key, std::size_t most, Parse parse) {
  std::vector<Item> out;
  BERTH_ASSIGN(const Json* list, json_array(json, key, most), "result");
  if (list == nullptr) return out;
  for (std::size_t i = 0; i < list->size(); ++i) {
    auto item = parse((*list)[i]);
    if (!item) return fail(std::move(item).error().in(std::string(key) + " " + std::to_string(i + 1)));
    out.push_back(std::move(*item));
  }
  return out;
}

Result<std::string> parse_text(const Json& json) {
  if (!json.is_string()) return fail(Code::kInvalid, "not a string");
  return json.get<std::string>();
}

Result<> parse_dns(const Json& json, CniResult& out) {
  const auto found = json.find("dns");
  if (found == json.end() || found->is_null()) return {};
  if (!found->is_object()) return fail(Code::kInvalid, "dns is not an object");
  BERTH_ASSIGN(out.dns.servers, parse_list<std::string>(*found, "nameservers", kMaxDns, parse_text), "dns");
  BERTH_ASSIGN(out.dns.searches, parse_list<std::string>(*found, "search", kMaxDns, parse_text), "dns");
  BERTH_ASSIGN(out.dns.options, parse_list<std::string>(*found, "options", kMaxDns, parse_text), "dns");
  BERTH_ASSIGN(out.dns_domain, json_string(*found, "domain"), "dns");
  return {};
}

// 0.1.0 and 0.2.0: "ip4" and "ip6" objects, each with its routes, and no interfaces.
Result<> parse_old_family(const Json& json, const char* key, CniResult& out) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return {};
  if (!found->is_object()) return fail(Code::kInvalid, std::string(key) + " is not an object");
  CniAddress address;
  BERTH_ASSIGN(address.address, json_string(*found, "ip"), key);
  if (!valid_prefixed(address.address)) return fail(Code::kInvalid, std::string(key) + ".ip is not an address");
  BERTH_ASSIGN(address.gateway, checked_gateway(*found, "gateway"), key);
  BERTH_ASSIGN(auto routes, parse_list<CniRoute>(*found, "routes", kMaxRoutes, parse_route), key);
  out.ips.push_back(std::move(address));
  out.routes.insert(out.routes.end(), routes.begin(), routes.end());
  return {};
}

void put_text(Json& json, const char* key, const std::string& value) {
  if (!value.empty()) json[key] = value;
}

Json format_dns(const CniResult& result) {
  Json out = Json::object();
  if (!result.dns.servers.empty()) out["nameservers"] = result.dns.servers;
  if (!result.dns.searches.empty()) out["search"] = result.dns.searches;
  if (!result.dns.options.empty()) out["options"] = result.dns.options;
  put_text(out, "domain", result.dns_domain);
  return out;
}

Json format_route(const CniRoute& route, bool newest) {
  Json out{{"dst", route.destination}};
  put_text(out, "gw", route.gateway);
  if (!newest) return out;
  if (route.mtu != 0) out["mtu"] = route.mtu;
  if (route.advmss != 0) out["advmss"] = route.advmss;
  if (route.priority) out["priority"] = *route.priority;
  if (route.table) out["table"] = *route.table;
  if (route.scope) out["scope"] = *route.scope;
  return out;
}

Json format_old(const CniResult& result) {
  Json out = Json::object();
  for (const auto& ip : result.ips) {
    const char* key = ip.ipv6() ? "ip6" : "ip4";
    if (out.contains(key)) continue;
    Json family{{"ip", ip.address}};
    put_text(family, "gateway", ip.gateway);
    for (const auto& route : result.routes) {
      if ((route.destination.find(':') != std::string::npos) == ip.ipv6()) {
        family["routes"].push_back(format_route(route, false));
      }
    }
    out[key] = std::move(family);
  }
  return out;
}

Json format_interface(const CniInterface& interface, bool newest) {
  Json item{{"name", interface.name}};
  put_text(item, "mac", interface.mac);
  put_text(item, "sandbox", interface.sandbox);
  if (!newest) return item;
  if (interface.mtu != 0) item["mtu"] = interface.mtu;
  put_text(item, "socketPath", interface.socket_path);
  put_text(item, "pciID", interface.pci_id);
  return item;
}

}  // namespace

Result<CniResult> parse_cni_result(std::string_view text, std::string_view expected) {
  BERTH_ASSIGN(const Json json, parse_json_object(text, kLimits), "result");
  CniResult out;
  BERTH_ASSIGN(out.version, json_string(json, "cniVersion"), "result");
  if (out.version.empty()) out.version = std::string(expected);
  if (!old_form(out.version) && !cni_version_known(out.version)) {
    return fail(Code::kUnsupported, "result of unknown cniVersion " + printable_tail(out.version, 32));
  }
  BERTH_TRY(parse_dns(json, out), "result");
  if (old_form(out.version)) {
    BERTH_TRY(parse_old_family(json, "ip4", out), "result");
    BERTH_TRY(parse_old_family(json, "ip6", out), "result");
    return out;
  }
  BERTH_ASSIGN(out.interfaces, parse_list<CniInterface>(json, "interfaces", kMaxInterfaces, parse_interface), "result");
  const std::size_t count = out.interfaces.size();
  BERTH_ASSIGN(out.ips,
               parse_list<CniAddress>(json, "ips", kMaxAddresses,
                                      [count](const Json& item) { return parse_address(item, count); }),
               "result");
  BERTH_ASSIGN(out.routes, parse_list<CniRoute>(json, "routes", kMaxRoutes, parse_route), "result");
  return out;
}

std::string format_cni_result(const CniResult& result, std::string_view version) {
  if (old_form(version)) {
    Json out = format_old(result);
    out["cniVersion"] = std::string(version);
    out["dns"] = format_dns(result);
    return json_text(out);
  }
  const bool newest = cni_version_at_least(version, "1.1.0");
  const bool with_family = !cni_version_at_least(version, "1.0.0");
  Json out{{"cniVersion", std::string(version)}};
  for (const auto& interface : result.interfaces) out["interfaces"].push_back(format_interface(interface, newest));
  for (const auto& ip : result.ips) {
    Json item{{"address", ip.address}};
    if (with_family) item["version"] = ip.ipv6() ? "6" : "4";
    put_text(item, "gateway", ip.gateway);
    if (ip.interface) item["interface"] = *ip.interface;
    out["ips"].push_back(std::move(item));
  }
  for (const auto& route : result.routes) out["routes"].push_back(format_route(route, newest));
  out["dns"] = format_dns(result);
  return json_text(out);
}

Attachment attachment_of(const CniResult& result, std::string_view ifname, std::string_view network) {
  Attachment out;
  out.network = std::string(network);
  const auto in_pod = [&result](const CniAddress& ip) {
    return !ip.interface || !result.interfaces[*ip.interface].sandbox.empty();
  };
  const auto on_ifname = [&](const CniAddress& ip) {
    return !ip.interface || result.interfaces[*ip.interface].name == ifname;
  };
  for (const bool first : {true, false}) {
    for (const auto& ip : result.ips) {
      if (!in_pod(ip) || on_ifname(ip) != first) continue;
      out.ips.push_back(ip.address.substr(0, ip.address.find('/')));
      if (out.gateway.empty()) out.gateway = ip.gateway;
    }
  }
  for (const auto& interface : result.interfaces) {
    if (interface.name == ifname && !interface.sandbox.empty()) out.mac = printable_tail(interface.mac, 64);
  }
  return out;
}

std::string printable_tail(std::string_view text, std::size_t most) {
  text = trim(text);
  if (text.size() > most) text.remove_prefix(text.size() - most);
  std::string out(text);
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return out;
}

std::optional<CniPluginError> parse_cni_error(std::string_view text) {
  const auto json = parse_json_object(text, kLimits);
  if (!json) return std::nullopt;
  const auto code = number(*json, "code");
  auto message = json_string(*json, "msg");
  auto details = json_string(*json, "details");
  if (!code || !*code || !message || !details) return std::nullopt;
  return CniPluginError{**code, printable_tail(*message, kMaxErrorText), printable_tail(*details, kMaxErrorText)};
}

}  // namespace berth::network
