#include "image/reference.h"

#include <arpa/inet.h>

#include "base/strings.h"
#include "image/digest.h"
#include "image/printable.h"

namespace berth::image {
namespace {

constexpr std::size_t kMaxName = 255;
constexpr std::size_t kMaxTag = 128;
constexpr std::size_t kMaxText = 1024;

bool is_lower_alnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}
bool is_alnum(char c) {
  return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

/// [a-z0-9]+ groups joined by one '.', one or two '_' or any number of '-'.
bool valid_component(std::string_view text) {
  if (text.empty() || !is_lower_alnum(text.front()) || !is_lower_alnum(text.back())) return false;
  for (std::size_t at = 0; at < text.size();) {
    if (is_lower_alnum(text[at])) {
      ++at;
      continue;
    }
    const char sep = text[at];
    std::size_t end = at;
    while (end < text.size() && text[end] == sep) ++end;
    const std::size_t run = end - at;
    const bool good = sep == '-' || (sep == '.' && run == 1) || (sep == '_' && run <= 2);
    if (!good || end == text.size() || !is_lower_alnum(text[end])) return false;
    at = end;
  }
  return true;
}

bool valid_repository(std::string_view text) {
  for (const std::string_view part : split(text, '/')) {
    if (!valid_component(part)) return false;
  }
  return true;
}

bool valid_tag(std::string_view text) {
  if (text.empty() || text.size() > kMaxTag || text.front() == '.' || text.front() == '-') return false;
  for (const char c : text) {
    if (!is_alnum(c) && c != '_' && c != '.' && c != '-') return false;
  }
  return true;
}

bool valid_port(std::string_view text) {
  const auto port = parse_number<unsigned>(text);
  return port && *port >= 1 && *port <= 65535 && text.size() <= 5;
}

bool valid_v6(std::string_view text) {
  in6_addr address{};
  return text.size() < INET6_ADDRSTRLEN && ::inet_pton(AF_INET6, std::string(text).c_str(), &address) == 1;
}

bool valid_host(std::string_view text) {
  if (text.empty() || text.size() > 253) return false;
  for (const std::string_view label : split(text, '.')) {
    if (label.empty() || !is_alnum(label.front()) || !is_alnum(label.back())) return false;
    for (const char c : label) {
      if (!is_alnum(c) && c != '-') return false;
    }
  }
  return true;
}

/// Docker's rule: the first component is a registry when it cannot be a repository component.
bool looks_like_registry(std::string_view first) {
  if (first == "localhost" || first.find_first_of(".:[") != std::string_view::npos) return true;
  return to_lower(first) != first;
}

std::unexpected<Error> bad(std::string_view text, std::string_view what) {
  return fail(Code::kInvalid, "image name \"" + printable(text) + "\": " + std::string(what));
}

}  // namespace

bool valid_registry(std::string_view text) {
  if (!text.empty() && text.front() == '[') {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos || !valid_v6(text.substr(1, close - 1))) return false;
    const std::string_view rest = text.substr(close + 1);
    return rest.empty() || (rest.front() == ':' && valid_port(rest.substr(1)));
  }
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return valid_host(text);
  return valid_host(text.substr(0, colon)) && valid_port(text.substr(colon + 1));
}

bool valid_registry_pattern(std::string_view text) {
  if (text.starts_with("*.")) text.remove_prefix(2);
  return valid_registry(text);
}

bool registry_pattern_matches(std::string_view pattern, std::string_view host, unsigned port) {
  const bool below = pattern.starts_with("*.");
  const HostPort wanted = split_host_port(below ? pattern.substr(1) : pattern);  // ".domain" keeps its dot
  if (wanted.port != 0 && wanted.port != port) return false;
  const std::string name = to_lower(host);
  const std::string suffix = to_lower(wanted.host);
  return below ? name.size() > suffix.size() && name.ends_with(suffix) : name == suffix;
}

HostPort split_host_port(std::string_view registry) {
  HostPort out;
  std::string_view rest;
  if (!registry.empty() && registry.front() == '[') {
    const std::size_t close = registry.find(']');
    if (close == std::string_view::npos) return {std::string(registry), 0};
    out.host = registry.substr(1, close - 1);
    rest = registry.substr(close + 1);
  } else {
    const std::size_t colon = registry.find(':');
    out.host = registry.substr(0, colon);
    if (colon != std::string_view::npos) rest = registry.substr(colon);
  }
  if (rest.size() > 1) out.port = parse_number<unsigned>(rest.substr(1)).value_or(0);
  return out;
}

bool is_loopback_host(std::string_view host) {
  if (to_lower(host) == "localhost") return true;
  const std::string text(host);
  in_addr v4{};
  if (::inet_pton(AF_INET, text.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  return ::inet_pton(AF_INET6, text.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

Result<Reference> parse_reference(std::string_view text, std::string_view default_registry) {
  if (text.empty()) return fail(Code::kInvalid, "the image name is empty");
  if (text.size() > kMaxText) return fail(Code::kInvalid, "the image name is longer than 1024 bytes");
  Reference out;
  std::string_view rest = text;
  if (const std::size_t at = rest.find('@'); at != std::string_view::npos) {
    out.digest = rest.substr(at + 1);
    rest = rest.substr(0, at);
    if (!valid_digest(out.digest)) return bad(text, "the digest must be sha256: and 64 lower-case hex digits");
  }
  if (const std::size_t colon = rest.rfind(':');
      colon != std::string_view::npos && rest.find_first_of("/]", colon) == std::string_view::npos) {
    out.tag = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
    if (!valid_tag(out.tag)) return bad(text, "the tag must be 1 to 128 of A-Z a-z 0-9 _ . -");
  }
  const std::size_t slash = rest.find('/');
  if (slash != std::string_view::npos && looks_like_registry(rest.substr(0, slash))) {
    out.registry = rest.substr(0, slash);
    rest = rest.substr(slash + 1);
    if (!valid_registry(out.registry))
      return bad(text, "the registry must be a host name or address with an optional port");
  } else {
    out.registry = default_registry;
    if (slash == std::string_view::npos && is_hex(rest, 64)) {
      return bad(text, "64 hex digits are an image id, not a name");
    }
  }
  if (out.registry == "index.docker.io") out.registry = "docker.io";
  if (rest.empty()) return bad(text, "the repository is missing");
  if (to_lower(rest) != rest) return bad(text, "the repository must be lower case");
  if (!valid_repository(rest))
    return bad(text, "the repository must be a-z and 0-9, with . _ - between them and / between parts");
  out.repository = rest;
  if (out.registry == "docker.io" && rest.find('/') == std::string_view::npos) out.repository.insert(0, "library/");
  if (out.registry.size() + 1 + out.repository.size() > kMaxName)
    return bad(text, "registry and repository exceed 255 bytes");
  if (out.tag.empty() && out.digest.empty()) out.tag = "latest";
  return out;
}

}  // namespace berth::image
