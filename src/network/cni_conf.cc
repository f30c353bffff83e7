#include "network/cni_conf.h"

#include <algorithm>
#include <array>

#include "base/strings.h"
#include "network/json.h"
#include "os/file.h"

namespace berth::network {
namespace {

// In the order of their appearance; 0.1.0 and 0.2.0 have another result form and no lists.
constexpr std::array<std::string_view, 5> kVersions{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};
constexpr std::size_t kMaxPlugins = 32;
constexpr std::size_t kMaxVersions = 32;
constexpr std::size_t kMaxName = 255;

std::size_t rank(std::string_view version) {
  return static_cast<std::size_t>(std::ranges::find(kVersions, version) - kVersions.begin());
}

bool alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool valid_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxName && alphanumeric(name.front()) &&
         std::ranges::all_of(name, [](char c) { return alphanumeric(c) || c == '_' || c == '.' || c == '-'; });
}

Result<std::string> choose_version(const Json& json) {
  BERTH_ASSIGN(std::string chosen, json_string(json, "cniVersion"), "configuration");
  BERTH_ASSIGN(const Json* more, json_array(json, "cniVersions", kMaxVersions), "configuration");
  if (more != nullptr) {
    for (const auto& item : *more) {
      if (!item.is_string()) return fail(Code::kInvalid, "cniVersions holds something that is not a string");
      const auto version = item.get<std::string>();
      if (cni_version_known(version) && (!cni_version_known(chosen) || rank(version) > rank(chosen))) chosen = version;
    }
  }
  if (chosen.empty()) return fail(Code::kInvalid, "cniVersion is missing");
  if (!cni_version_known(chosen)) {
    return fail(Code::kUnsupported, "cniVersion " + chosen + " is not supported (0.3.0 to 1.1.0 are)");
  }
  return chosen;
}

Result<CniPlugin> parse_plugin(const Json& json) {
  if (!json.is_object()) return fail(Code::kInvalid, "not an object");
  CniPlugin plugin;
  BERTH_ASSIGN(plugin.type, json_string(json, "type"), "plugin");
  if (plugin.type.empty()) return fail(Code::kInvalid, "type is missing");
  if (!valid_name(plugin.type)) return fail(Code::kInvalid, "type is not the name of a program");
  if (const auto found = json.find("capabilities"); found != json.end()) {
    if (!found->is_object()) return fail(Code::kInvalid, "capabilities is not an object");
    for (const auto& [name, on] : found->items()) {
      if (!on.is_boolean()) return fail(Code::kInvalid, "capability " + name + " is not true or false");
      if (on.get<bool>()) plugin.capabilities.insert(name);
    }
  }
  plugin.text = json_text(json);
  return plugin;
}

Json port_mappings(const PodNetwork& pod) {
  Json out = Json::array();
  for (const auto& port : pod.ports) {
    if (port.host_port == 0) continue;
    Json item{
        {"hostPort", port.host_port}, {"containerPort", port.container_port}, {"protocol", to_lower(port.protocol)}};
    if (!port.host_ip.empty()) item["hostIP"] = port.host_ip;
    out.push_back(std::move(item));
  }
  return out;
}

// "10M" of a Kubernetes quantity, as bits a second; 0 when it is none or does not fit.
std::uint64_t parse_rate(std::string_view text) {
  std::uint64_t factor = 1;
  const std::array<std::pair<std::string_view, std::uint64_t>, 8> units{{{"Ki", 1ULL << 10},
                                                                         {"Mi", 1ULL << 20},
                                                                         {"Gi", 1ULL << 30},
                                                                         {"Ti", 1ULL << 40},
                                                                         {"k", 1000ULL},
                                                                         {"M", 1000'000ULL},
                                                                         {"G", 1000'000'000ULL},
                                                                         {"T", 1000'000'000'000ULL}}};
  for (const auto& [unit, value] : units) {
    if (!text.ends_with(unit)) continue;
    text.remove_suffix(unit.size());
    factor = value;
    break;
  }
  const auto number = parse_number<std::uint64_t>(text);
  constexpr std::uint64_t kMost = 1'000'000'000'000'000ULL;
  if (!number || *number > kMost / factor) return 0;
  return *number * factor;
}

Json bandwidth(const PodNetwork& pod) {
  // As the kubelet's users know it: the burst is all that a token bucket of 32 bits holds.
  constexpr std::uint64_t kBurst = 0x7fffffff;
  Json out = Json::object();
  const auto take = [&](const char* annotation, const char* rate, const char* burst) {
    const auto found = pod.annotations.find(annotation);
    if (found == pod.annotations.end()) return;
    const auto value = parse_rate(found->second);
    if (value == 0) return;
    out[rate] = value;
    out[burst] = kBurst;
  };
  take("kubernetes.io/ingress-bandwidth", "ingressRate", "ingressBurst");
  take("kubernetes.io/egress-bandwidth", "egressRate", "egressBurst");
  return out;
}

// The values that we have for the capabilities a plugin declares. Source: CNI CONVENTIONS.md.
Json runtime_config(const CniPlugin& plugin, const PodNetwork& pod) {
  Json all = Json::object();
  const auto wants = [&plugin](const char* name) { return plugin.capabilities.contains(name); };
  if (wants("portMappings")) {
    if (Json ports = port_mappings(pod); !ports.empty()) all["portMappings"] = std::move(ports);
  }
  if (wants("bandwidth")) {
    if (Json rates = bandwidth(pod); !rates.empty()) all["bandwidth"] = std::move(rates);
  }
  if (wants("dns") && !pod.dns.servers.empty()) {
    all["dns"] = {{"servers", pod.dns.servers}, {"searches", pod.dns.searches}, {"options", pod.dns.options}};
  }
  if (wants("cgroupPath") && !pod.cgroup_path.empty()) all["cgroupPath"] = pod.cgroup_path;
  if (wants("io.kubernetes.cri.pod-annotations") && !pod.annotations.empty()) {
    all["io.kubernetes.cri.pod-annotations"] = pod.annotations;
  }
  return all;
}

}  // namespace

bool cni_version_known(std::string_view version) {
  return rank(version) < kVersions.size();
}

bool cni_version_at_least(std::string_view version, std::string_view least) {
  return rank(version) >= rank(least);
}

Result<CniConf> parse_cni_conf(std::string_view text) {
  BERTH_ASSIGN(const Json json, parse_json_object(text, {}), "network configuration");
  CniConf conf;
  conf.text = std::string(text);
  BERTH_ASSIGN(conf.version, choose_version(json), "network configuration");
  BERTH_ASSIGN(conf.name, json_string(json, "name"), "network configuration");
  if (!valid_name(conf.name)) {
    return fail(Code::kInvalid, "network configuration: name must be letters, digits, '_', '.' and '-'");
  }
  if (const auto found = json.find("disableCheck"); found != json.end()) {
    if (!found->is_boolean()) return fail(Code::kInvalid, "network configuration: disableCheck is not true or false");
    conf.disable_check = found->get<bool>();
  }
  if (!json.contains("plugins")) {
    BERTH_ASSIGN(auto only, parse_plugin(json), "network configuration without plugins");
    conf.plugins.push_back(std::move(only));
    return conf;
  }
  BERTH_ASSIGN(const Json* plugins, json_array(json, "plugins", kMaxPlugins), "network configuration");
  if (plugins == nullptr || plugins->empty()) return fail(Code::kInvalid, "network configuration: plugins is empty");
  for (std::size_t i = 0; i < plugins->size(); ++i) {
    BERTH_ASSIGN(auto plugin, parse_plugin((*plugins)[i]), "network configuration: plugin " + std::to_string(i + 1));
    conf.plugins.push_back(std::move(plugin));
  }
  return conf;
}

Result<std::string> plugin_input(const CniConf& conf, std::size_t index, const PodNetwork& pod,
                                 std::string_view previous) {
  const auto& plugin = conf.plugins[index];
  // Written by ourselves from a bounded text; numbers may have become longer on the way.
  constexpr JsonLimits kOwn{4U << 20, 32};
  BERTH_ASSIGN(Json json, parse_json_object(plugin.text, kOwn), "plugin " + plugin.type);
  json["name"] = conf.name;
  json["cniVersion"] = conf.version;
  json.erase("cniVersions");
  json.erase("capabilities");
  if (Json runtime = runtime_config(plugin, pod); !runtime.empty()) json["runtimeConfig"] = std::move(runtime);
  if (!previous.empty()) {
    constexpr JsonLimits kResult{1U << 20, 32};
    BERTH_ASSIGN(json["prevResult"], parse_json_object(previous, kResult), "previous result");
  }
  return json_text(json);
}

Result<std::string> cni_args(const PodNetwork& pod) {
  std::string out = "IgnoreUnknown=1";
  const std::array<std::pair<const char*, const std::string*>, 4> pairs{
      {{"K8S_POD_NAMESPACE", &pod.pod_namespace},
       {"K8S_POD_NAME", &pod.pod_name},
       {"K8S_POD_INFRA_CONTAINER_ID", &pod.sandbox_id},
       {"K8S_POD_UID", &pod.pod_uid}}};
  for (const auto& [key, value] : pairs) {
    if (value->find_first_of(std::string_view(";=\0", 3)) != std::string::npos) {
      return fail(Code::kInvalid, std::string(key) + " cannot be passed to a plugin: " + *value);
    }
    out += std::string(";") + key + "=" + *value;
  }
  return out;
}

Result<std::string> first_cni_file(const std::string& dir) {
  auto names = os::list_dir(dir);
  if (!names && names.error().code() == Code::kNotFound) return std::string();
  if (!names) return fail(std::move(names).error());
  for (const auto& name : *names) {
    if (name.ends_with(".conf") || name.ends_with(".conflist") || name.ends_with(".json")) return dir + "/" + name;
  }
  return std::string();
}

}  // namespace berth::network
