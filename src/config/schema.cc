#include "config/schema.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "base/strings.h"
#include "os/systemd_unit.h"

namespace berth::config {

namespace {

constexpr std::array<std::string_view, 3> kLayerForms = {"auto", "erofs", "directory"};
constexpr std::array<std::string_view, 6> kEngines = {"process", "external", "vm", "unikernel", "wasm", "sandbox"};
constexpr std::array<std::string_view, 4> kLogLevels = {"debug", "info", "warn", "error"};
constexpr std::size_t kMaxSocketPath = 107;    // unix(7): sun_path holds 108 bytes with the NUL
constexpr std::size_t kMaxInterfaceName = 15;  // netdevice(7): IFNAMSIZ without the NUL
constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz";
constexpr std::string_view kDigits = "0123456789";

Fault fault(std::string text) {
  return {Code::kInvalid, std::move(text)};
}

bool made_of(std::string_view text, std::initializer_list<std::string_view> sets) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return std::any_of(sets.begin(), sets.end(), [c](std::string_view set) { return set.find(c) != set.npos; });
  });
}

std::string words(const auto& list) {
  std::string text;
  for (const auto word : list) text.append(text.empty() ? "" : ", ").append(word);
  return text;
}

Fault check_absolute(std::string_view path) {
  return path.starts_with('/') ? Fault{} : fault("must be an absolute path");
}

Fault check_absolute_or_empty(std::string_view path) {
  return path.empty() ? Fault{} : check_absolute(path);
}

Fault check_listen(std::string_view path) {
  if (!path.starts_with('/')) return fault("must be the absolute path of a unix socket");
  if (path.size() <= kMaxSocketPath) return {};
  return fault("is " + std::to_string(path.size()) + " bytes long, a socket path has at most " +
               std::to_string(kMaxSocketPath));
}

Fault check_socket_or_empty(std::string_view path) {
  return path.empty() ? Fault{} : check_listen(path);
}

Fault check_log_level(std::string_view level) {
  if (std::find(kLogLevels.begin(), kLogLevels.end(), level) != kLogLevels.end()) return {};
  return fault("must be one of " + words(kLogLevels));
}

Fault check_driver(std::string_view driver) {
  if (driver == "cgroupfs" || driver == "systemd" || driver == "auto") return {};
  return fault("must be \"cgroupfs\", \"systemd\" or \"auto\"");
}

Fault check_cgroup(std::string_view path) {
  if (path.empty()) return {};
  if (!path.starts_with('/') && path.ends_with(".slice")) {
    return os::slice_path(std::string(path)).value_or("").empty() ? fault("must be the name of a slice") : Fault{};
  }
  if (!path.starts_with('/') || path.size() < 2) {
    return fault("must be a cgroup below the root, like \"/berth\", or a slice, like \"berth.slice\"");
  }
  for (const auto part : split(path.substr(1), '/')) {
    if (part.empty() || part == "." || part == "..") return fault("must not have empty, \".\" or \"..\" parts");
  }
  return {};
}

Fault check_bridge(std::string_view name) {
  const bool good = !name.empty() && name != "." && name != ".." && name.size() <= kMaxInterfaceName &&
                    name.find_first_of("/: \t\n\v\f\r") == std::string_view::npos;
  return good ? Fault{} : fault("must be an interface name of 1 to 15 bytes");
}

Fault check_subnet(std::string_view subnet) {
  static constexpr std::string_view kExpected = "must be an IPv4 network like \"10.88.0.0/16\"";
  const auto slash = subnet.find('/');
  if (slash == std::string_view::npos) return fault(std::string(kExpected));
  const auto length = parse_number<unsigned>(subnet.substr(slash + 1));
  const auto parts = split(subnet.substr(0, slash), '.');
  if (!length || *length > 32 || parts.size() != 4) return fault(std::string(kExpected));
  std::uint32_t address = 0;
  for (const auto part : parts) {
    const auto byte = parse_number<std::uint8_t>(part);
    if (!byte || (part.size() > 1 && part.front() == '0')) return fault(std::string(kExpected));
    address = address << 8 | *byte;
  }
  if (*length < 8 || *length > 30) return fault("the prefix must be from /8 to /30");
  if ((address & (UINT32_MAX >> *length)) != 0) return fault("has bits set behind the prefix");
  return {};
}

Fault check_address(std::string_view address) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  const std::string text(address);
  const bool good =
      ::inet_pton(AF_INET, text.c_str(), bytes.data()) == 1 || ::inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1;
  return good ? Fault{} : fault("must be an IPv4 or IPv6 address");
}

Fault check_platform(std::string_view platform) {
  if (platform.empty()) return {};
  const auto parts = split(platform, '/');
  const bool good = (parts.size() == 2 || parts.size() == 3) && std::all_of(parts.begin(), parts.end(), [](auto part) {
                      return !part.empty() && made_of(part, {kLetters, kDigits, "._-"});
                    });
  return good ? Fault{} : fault("must be like \"linux/amd64\" or \"linux/arm64/v8\"");
}

/// host[:port]: a name, an IPv4 address or an IPv6 address in brackets.
bool is_host_port(std::string_view text) {
  const auto colon = text.starts_with('[') ? text.find(':', text.find(']')) : text.rfind(':');
  const std::string_view host = text.substr(0, colon);
  if (colon != std::string_view::npos) {
    const auto port = parse_number<std::uint16_t>(text.substr(colon + 1));
    if (!port || *port == 0) return false;
  }
  if (host.empty() || host.size() > 253) return false;
  if (host.front() == '[') {
    return host.size() > 3 && host.back() == ']' &&
           made_of(host.substr(1, host.size() - 2), {kDigits, "abcdefABCDEF:."});
  }
  const bool edges = host.front() != '.' && host.front() != '-' && host.back() != '-';
  return edges && made_of(host, {kLetters, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", kDigits, ".-"});
}

Fault check_registry(std::string_view registry) {
  return is_host_port(registry) ? Fault{} : fault("must be host or host:port, without a scheme and a path");
}

Fault check_registry_pattern(std::string_view pattern) {
  if (pattern.starts_with("*.")) pattern.remove_prefix(2);
  return is_host_port(pattern) ? Fault{} : fault("must be host, host:port or *.domain, without a scheme and a path");
}

Fault check_engine(std::string_view engine) {
  if (std::find(kEngines.begin(), kEngines.end(), engine) != kEngines.end()) return {};
  std::string text = "must be one of " + words(kEngines);
  const auto meant = nearest(engine, {kEngines.begin(), kEngines.end()});
  if (!meant.empty()) text.append("; did you mean \"").append(meant).append("\"?");
  return fault(std::move(text));
}

Fault check_layers(std::string_view form) {
  if (std::find(kLayerForms.begin(), kLayerForms.end(), form) != kLayerForms.end()) return {};
  return fault("must be one of " + words(kLayerForms));
}

Fault check_handler_name(std::string_view name) {
  return is_handler_name(name) ? Fault{} : fault("must be the name of a handler");
}

}  // namespace

std::string Key::path() const {
  return section.empty() ? std::string(name) : std::string(section).append(".").append(name);
}

std::vector<Key> keys_of(Config& c) {
  constexpr std::uint64_t kHour = 3600;
  constexpr std::uint64_t kMaxPluginTimeoutMs = 600'000;
  return {
      {"", "root", &c.root, check_absolute},
      {"", "state", &c.state, check_absolute},
      {"", "listen", &c.listen, check_listen},
      {"", "log_level", &c.log_level, check_log_level},
      {"cgroup", "driver", &c.cgroup.driver, check_driver},
      {"cgroup", "parent", &c.cgroup.parent, check_cgroup},
      {"network", "conf_dir", &c.network.conf_dir, check_absolute},
      {"network", "bin_dirs", &c.network.bin_dirs, check_absolute},
      {"network", "bridge", &c.network.bridge, check_bridge},
      {"network", "subnet", &c.network.subnet, check_subnet},
      {"network", "mtu", &c.network.mtu, nullptr, 68, 65535, true},
      {"network", "masquerade", &c.network.masquerade},
      {"network", "host_ports", &c.network.host_ports},
      {"network", "plugin_timeout_s", &c.network.plugin_timeout_s, nullptr, 1, kHour},
      {"image", "platform", &c.image.platform, check_platform},
      {"image", "default_registry", &c.image.default_registry, check_registry},
      {"image", "insecure_registries", &c.image.insecure_registries, check_registry_pattern},
      {"image", "layers", &c.image.layers, check_layers},
      {"image", "max_parallel_layers", &c.image.max_parallel_layers, nullptr, 1, 64},
      {"image", "pull_progress_timeout_s", &c.image.pull_progress_timeout_s, nullptr, 1, kHour},
      {"image", "max_layer_bytes", &c.image.max_layer_bytes, nullptr, 1U << 20, INT64_MAX},
      {"image", "hosts_dir", &c.image.hosts_dir, check_absolute_or_empty},
      {"image", "auth_file", &c.image.auth_file, check_absolute_or_empty},
      {"log", "max_line_bytes", &c.log.max_line_bytes, nullptr, 1024, 1U << 20},
      {"runtime", "shim", &c.runtime.shim, check_absolute_or_empty},
      {"runtime", "default_handler", &c.runtime.default_handler, check_handler_name},
      {"runtime", "exec_output_limit", &c.runtime.exec_output_limit, nullptr, 4096, 1U << 30},
      {"runtime", "stats_period_s", &c.runtime.stats_period_s, nullptr, 1, kHour},
      {"runtime", "cdi_dirs", &c.runtime.cdi_dirs, check_absolute},
      {"runtime", "hooks_dirs", &c.runtime.hooks_dirs, check_absolute},
      {"stream", "program", &c.stream.program, check_absolute_or_empty},
      {"stream", "address", &c.stream.address, check_address},
      {"stream", "port", &c.stream.port, nullptr, 0, 65535},
      {"stream", "tls_cert", &c.stream.tls_cert, check_absolute_or_empty},
      {"stream", "tls_key", &c.stream.tls_key, check_absolute_or_empty},
      {"nri", "enabled", &c.nri.enabled},
      {"nri", "socket", &c.nri.socket, check_socket_or_empty},
      {"nri", "plugin_dir", &c.nri.plugin_dir, check_absolute_or_empty},
      {"nri", "config_dir", &c.nri.config_dir, check_absolute},
      {"nri", "registration_timeout_ms", &c.nri.registration_timeout_ms, nullptr, 10, kMaxPluginTimeoutMs},
      {"nri", "request_timeout_ms", &c.nri.request_timeout_ms, nullptr, 10, kMaxPluginTimeoutMs},
      {"nri", "default_validator", &c.nri.default_validator},
      {"nri", "reject_oci_hook_adjustment", &c.nri.reject_oci_hook_adjustment},
      {"nri", "reject_runtime_default_seccomp_adjustment", &c.nri.reject_runtime_default_seccomp_adjustment},
      {"nri", "reject_unconfined_seccomp_adjustment", &c.nri.reject_unconfined_seccomp_adjustment},
      {"nri", "reject_custom_seccomp_adjustment", &c.nri.reject_custom_seccomp_adjustment},
      {"nri", "reject_namespace_adjustment", &c.nri.reject_namespace_adjustment},
      {"nri", "reject_sysctl_adjustment", &c.nri.reject_sysctl_adjustment},
      {"nri", "required_plugins", &c.nri.required_plugins},
      {"nri", "tolerate_missing_plugins_annotation", &c.nri.tolerate_missing_plugins_annotation},
  };
}

std::vector<Key> keys_of(Handler& h) {
  return {
      {"handlers", "engine", &h.engine, check_engine},
      {"handlers", "binary", &h.binary, check_absolute},
      {"handlers", "root", &h.root, check_absolute},
      {"handlers", "shim", &h.shim, check_absolute},
  };
}

std::vector<Fault> check_together(const Config& config,
                                  const std::map<std::string, std::string, std::less<>>& origins) {
  std::vector<Fault> faults;
  const auto where = [&origins](std::initializer_list<std::string> keys) {
    for (const auto& key : keys) {
      if (const auto found = origins.find(key); found != origins.end()) return found->second + ": ";
    }
    return std::string();
  };
  for (const auto& [name, handler] : config.handlers) {
    const std::string key = "handlers." + name;
    const std::string origin = where({key + ".engine", key + ".shim", key + ".binary", key});
    if (handler.engine.empty() && handler.shim.empty()) {
      faults.push_back(fault(origin + key + ": needs an engine or a shim"));
    } else if (!handler.shim.empty() && !handler.engine.empty()) {
      faults.push_back(fault(origin + key + ": a shim of its own takes no engine"));
    } else if (handler.engine == "external" && handler.binary.empty()) {
      faults.push_back(fault(origin + key + ": engine \"external\" needs a binary"));
    } else if (handler.shim.empty() && handler.engine != "external" &&
               (!handler.binary.empty() || !handler.root.empty())) {
      faults.push_back(fault(origin + key + ": binary and root are for engine \"external\" and for shims only"));
    }
  }
  if (config.stream.tls_cert.empty() != config.stream.tls_key.empty()) {
    faults.push_back(fault(where({"stream.tls_cert", "stream.tls_key"}) +
                           "stream.tls_cert: a certificate needs its tls_key, and the other way round"));
  }
  const auto& nri = config.nri;
  const bool of_validator = nri.reject_oci_hook_adjustment || nri.reject_runtime_default_seccomp_adjustment ||
                            nri.reject_unconfined_seccomp_adjustment || nri.reject_custom_seccomp_adjustment ||
                            nri.reject_namespace_adjustment || nri.reject_sysctl_adjustment ||
                            !nri.required_plugins.empty();
  if (of_validator && (!nri.default_validator || !nri.enabled)) {
    faults.push_back(fault(where({"nri.default_validator", "nri.enabled"}) +
                           "nri: what is rejected or required takes enabled and default_validator = true"));
  }
  const std::string& chosen = config.runtime.default_handler;
  if (is_handler_name(chosen) && !config.handlers.contains(chosen)) {
    faults.push_back(
        fault(where({"runtime.default_handler"}) + "runtime.default_handler: there is no [handlers." + chosen + "]"));
  }
  return faults;
}

bool is_handler_name(std::string_view name) {
  return !name.empty() && name.size() <= 63 && name.front() != '-' && name.back() != '-' &&
         made_of(name, {kLetters, kDigits, "-"});
}

std::string_view nearest(std::string_view word, const std::vector<std::string_view>& known) {
  static constexpr std::size_t kMaxWord = 64;  // the table below is the product of two lengths
  if (word.size() > kMaxWord) return {};
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const auto candidate : known) {
    // Edit distance with a single row: row[j] is the distance of word[0, i) to candidate[0, j).
    std::vector<std::size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= word.size(); ++i) {
      std::size_t diagonal = std::exchange(row[0], i);
      for (std::size_t j = 1; j <= candidate.size(); ++j) {
        const std::size_t replaced = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
      }
    }
    // A word of three letters is not "meant" as one it shares no letter with.
    if (row.back() < best_distance && row.back() < std::max(word.size(), candidate.size())) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

}  // namespace berth::config
