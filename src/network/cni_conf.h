#pragma once
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "network/network.h"

namespace berth::network {

struct CniPlugin {
  std::string type;                    ///< the program's name: no '/', not empty
  std::set<std::string> capabilities;  ///< those that are switched on
  std::string text;                    ///< its JSON object as it stands in the list
};

/// A network configuration list. A single plugin's configuration becomes a list of one.
struct CniConf {
  std::string name;
  std::string version;  ///< one of 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0
  bool disable_check = false;
  std::vector<CniPlugin> plugins;  ///< 1 to 32
  std::string text;                ///< the whole file
};

/// Parses a *.conflist, *.conf or *.json file; which of the two forms it has is seen from its content.
/// Errors: kExhausted over 256 KiB, too deep, too many plugins; kCorrupt not JSON; kUnsupported a version that we do
/// not speak; kInvalid anything else, with the field named. Source: CNI specification 1.1, section 1.
Result<CniConf> parse_cni_conf(std::string_view text);

/// Whether `version` (of the known ones) is `least` or later.
[[nodiscard]] bool cni_version_at_least(std::string_view version, std::string_view least);
[[nodiscard]] bool cni_version_known(std::string_view version);

/// What plugin `index` reads on stdin: its object with name, cniVersion, runtimeConfig (as its capabilities ask) and
/// prevResult (`previous`: a result's text in the list's version, empty for none). Source: CNI specification,
/// section 4.
Result<std::string> plugin_input(const CniConf& conf, std::size_t index, const PodNetwork& pod,
                                 std::string_view previous);

/// CNI_ARGS as users of the kubelet know them. kInvalid when a value holds ';' or '='.
Result<std::string> cni_args(const PodNetwork& pod);

/// Where the configuration is: the first of *.conf, *.conflist, *.json in `dir` by name; empty when there is none or no
/// such folder.
Result<std::string> first_cni_file(const std::string& dir);

}  // namespace berth::network
