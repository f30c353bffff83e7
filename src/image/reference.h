#pragma once
#include <string>
#include <string_view>

#include "base/result.h"

namespace berth::image {

/// A full image name. Values copy.
/// Shape: registry "host", "host:port" or "[v6]:port"; repository without the registry, at least one component; tag or
/// digest or both may be empty, but never both at once after parse_reference.
struct Reference {
  std::string registry;    ///< "docker.io", "localhost:5000"
  std::string repository;  ///< "library/busybox"
  std::string tag;         ///< "latest"
  std::string digest;      ///< "sha256:<64 hex>"

  /// "docker.io/library/busybox"
  [[nodiscard]] std::string name() const { return registry + "/" + repository; }
  /// "name:tag", or empty without a tag.
  [[nodiscard]] std::string tagged() const { return tag.empty() ? std::string() : name() + ":" + tag; }
  /// "name@sha256:...", or empty without a digest.
  [[nodiscard]] std::string canonical() const { return digest.empty() ? std::string() : name() + "@" + digest; }
  /// What is fetched: the digest wins over the tag.
  [[nodiscard]] std::string to_string() const { return digest.empty() ? tagged() : canonical(); }

  friend bool operator==(const Reference&, const Reference&) = default;
};

/// Parses a name as people and pod specs write it and fills in what is left out: the registry `default_registry`,
/// "library/" in front of a one-word docker.io repository, the tag "latest" when there is neither tag nor digest. At
/// most 255 bytes of registry and repository, 128 of tag. Error: kInvalid naming the part that is wrong. Source: the
/// grammar of github.com/distribution/reference.
[[nodiscard]] Result<Reference> parse_reference(std::string_view text, std::string_view default_registry = "docker.io");

/// Whether `text` is "host", "host:port" or "[v6]:port" as a Reference's registry may be.
[[nodiscard]] bool valid_registry(std::string_view text);

/// Whether `text` can stand in insecure_registries: a registry, or "*.domain" with an optional port.
[[nodiscard]] bool valid_registry_pattern(std::string_view text);
/// Whether `pattern` (a valid one) means `host` at `port`: the host itself or, for "*.domain", any below the domain;
/// any port when it names none. Case does not matter.
[[nodiscard]] bool registry_pattern_matches(std::string_view pattern, std::string_view host, unsigned port);

/// Host and port of a registry; the host without brackets, the port 0 when absent. `registry` is a valid one.
struct HostPort {
  std::string host;
  unsigned port = 0;
};
[[nodiscard]] HostPort split_host_port(std::string_view registry);

/// Whether `host` (without port and brackets) is this machine: "localhost", 127.0.0.0/8 or ::1.
[[nodiscard]] bool is_loopback_host(std::string_view host);

}  // namespace berth::image
