#include "arguments.h"

#include <cstdlib>

#include "base/strings.h"

namespace berth::cli {

Result<::runtime::v1::PortMapping> parse_port(const std::string& text) {
  const auto bad = [&text] {
    return fail(Code::kInvalid, "port \"" + text + "\": expected [HOST-IP:]HOST-PORT:CONTAINER-PORT[/tcp|udp|sctp]");
  };
  ::runtime::v1::PortMapping mapping;
  std::string_view rest = text;
  mapping.set_protocol(::runtime::v1::TCP);
  if (const auto slash = rest.find('/'); slash != std::string_view::npos) {
    const auto protocol = rest.substr(slash + 1);
    if (protocol == "udp") {
      mapping.set_protocol(::runtime::v1::UDP);
    } else if (protocol == "sctp") {
      mapping.set_protocol(::runtime::v1::SCTP);
    } else if (protocol != "tcp") {
      return bad();
    }
    rest = rest.substr(0, slash);
  }
  const auto last = rest.rfind(':');
  if (last == std::string_view::npos) return bad();
  const auto container_port = parse_number<std::uint16_t>(rest.substr(last + 1));
  rest = rest.substr(0, last);
  if (const auto colon = rest.rfind(':'); colon != std::string_view::npos) {
    auto ip = rest.substr(0, colon);
    if (ip.starts_with('[') && ip.ends_with(']')) ip = ip.substr(1, ip.size() - 2);
    mapping.set_host_ip(std::string(ip));
    rest = rest.substr(colon + 1);
  }
  const auto host_port = parse_number<std::uint16_t>(rest);
  if (!container_port || !host_port || *container_port == 0 || *host_port == 0) return bad();
  mapping.set_container_port(*container_port);
  mapping.set_host_port(*host_port);
  return mapping;
}

Result<::runtime::v1::Mount> parse_volume(const std::string& text) {
  const auto parts = split(text, ':');
  const bool form = parts.size() == 2 || (parts.size() == 3 && (parts[2] == "ro" || parts[2] == "rw"));
  if (!form || !parts[0].starts_with('/') || !parts[1].starts_with('/')) {
    return fail(Code::kInvalid, "volume \"" + text + "\": expected /HOST:/CONTAINER[:ro]");
  }
  ::runtime::v1::Mount mount;
  mount.set_host_path(std::string(parts[0]));
  mount.set_container_path(std::string(parts[1]));
  mount.set_readonly(parts.size() == 3 && parts[2] == "ro");
  return mount;
}

Result<std::int64_t> parse_bytes(const std::string& text) {
  std::string_view digits = text;
  int shift = 0;
  if (!digits.empty()) {
    switch (digits.back()) {
      case 'k':
      case 'K':
        shift = 10;
        break;
      case 'm':
      case 'M':
        shift = 20;
        break;
      case 'g':
      case 'G':
        shift = 30;
        break;
      default:
        break;
    }
  }
  if (shift != 0) digits.remove_suffix(1);
  const auto number = parse_number<std::int64_t>(digits);
  if (!number || *number <= 0 || *number > (INT64_MAX >> shift)) {
    return fail(Code::kInvalid, "size \"" + text + "\": expected a number with k, m or g");
  }
  return *number << shift;
}

Result<::runtime::v1::KeyValue> parse_env(const std::string& text) {
  const auto equals = text.find('=');
  const std::string name = text.substr(0, equals);
  if (name.empty()) return fail(Code::kInvalid, "environment \"" + text + "\": expected NAME=VALUE");
  ::runtime::v1::KeyValue pair;
  pair.set_key(name);
  if (equals != std::string::npos) {
    pair.set_value(text.substr(equals + 1));
  } else if (const char* value = std::getenv(name.c_str()); value != nullptr) {  // NOLINT(concurrency-mt-unsafe)
    pair.set_value(value);
  }
  return pair;
}

}  // namespace berth::cli
