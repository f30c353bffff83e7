#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/host_tls.h"

/// containerd's hosts.toml: which hosts serve a registry's images. Source: containerd docs/hosts.md.
namespace berth::image {

/// How one host is spoken to.
struct HostConfig {
  std::string scheme{};      ///< "http" or "https"; empty: the registry itself, by its own name and rules
  std::string authority{};   ///< "host[:port]", lower case
  std::string path = "/v2";  ///< of the API, without a slash at the end
  bool can_pull = true;
  bool can_resolve = true;  ///< may say what a tag is
  TlsFiles tls{};
  std::vector<std::string> headers{};         ///< "Name: value", for this host alone
  std::chrono::milliseconds dial_timeout{0};  ///< 0: not said
};

struct HostsConfig {
  std::vector<HostConfig> mirrors{};    ///< in the order of the file
  HostConfig server{};                  ///< after all of them
  std::vector<std::string> warnings{};  ///< "FILE:LINE: what": keys that mean nothing here
};

/// The folders below `hosts_dir` that can hold the files of the registry `authority`, the first one that exists does:
/// HOST_PORT_, HOST:PORT (or HOST), _default.
[[nodiscard]] std::vector<std::string> host_folders(const std::string& hosts_dir, const std::string& authority);

/// The text of the file `path` (for messages; files that it names are relative to its folder). At most 256 KiB, 64
/// hosts. Errors: kInvalid "PATH:LINE: what"; kExhausted.
[[nodiscard]] Result<HostsConfig> parse_hosts(std::string_view text, const std::string& path);

/// What is configured for `registry` ("docker.io", "host:port"); the defaults where there is no file. Blocks on disk.
/// Errors: as parse_hosts(); kDenied and others when the file is there and cannot be read.
[[nodiscard]] Result<HostsConfig> load_hosts(const std::string& hosts_dir, const std::string& registry);

/// A duration as Go writes it: "1s", "1m30s", "1.5s", "250ms", "0". Nothing for other texts, negative and above a day.
[[nodiscard]] std::optional<std::chrono::milliseconds> parse_go_duration(std::string_view text);

}  // namespace berth::image
