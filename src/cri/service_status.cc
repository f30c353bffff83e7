#include "base/log.h"
#include "cri/doctor.h"
#include "cri/service_impl.h"
#include "network/network.h"
#include "spec/json_text.h"

namespace berth::cri {

namespace {

constexpr std::size_t kMaxPodCidr = 256;

void add_condition(pb::RuntimeStatus& status, const Probe& probe, const std::string& reason,
                   const std::string& message) {
  auto* condition = status.add_conditions();
  condition->set_type(probe.name);
  condition->set_status(probe.health != Health::kBad);
  condition->set_reason(reason);
  condition->set_message(message);
}

void add_handler(pb::StatusResponse& answer, const std::string& name, const HandlerFeatures& features) {
  auto* handler = answer.add_runtime_handlers();
  handler->set_name(name);
  *handler->mutable_features() = features_of(features);
}

void write_handlers(spec::JsonWriter& json, const HandlerTable& table, const FeatureTable& all) {
  json.key("handlers").begin_object();
  for (const auto& [name, handler] : table.handlers) {
    json.key(name).begin_object();
    json.key("engine").string(!handler.shim.empty() ? "shim" : handler.ours() ? "process" : "external");
    if (!handler.shim.empty()) json.key("shim").string(handler.shim);
    if (!handler.binary.empty()) json.key("binary").string(handler.binary);
    const auto ready = check_ready(handler);
    json.key("ready").boolean(ready.has_value());
    if (!ready) json.key("message").string(ready.error().text());
    // What it lacks, with the reason.
    const HandlerFeatures features = all.of(handler);
    if (!features.user_namespaces()) json.key("noUserNamespaces").string(features.no_user_namespaces);
    if (!features.recursive_read_only_mounts()) {
      json.key("noRecursiveReadOnlyMounts").string(features.no_recursive_read_only);
    }
    json.end_object();
  }
  json.end_object();
}

}  // namespace

Result<pb::VersionResponse> ServiceImpl::version(const Call& /*call*/, const pb::VersionRequest& /*request*/) {
  pb::VersionResponse answer;
  answer.set_version("0.1.0");
  answer.set_runtime_name("berth");
  answer.set_runtime_version(BERTH_VERSION);
  answer.set_runtime_api_version("v1");
  return answer;
}

Result<pb::StatusResponse> ServiceImpl::status(const Call& /*call*/, const pb::StatusRequest& request) {
  pb::StatusResponse answer;
  const auto network = options_.network->status();
  const auto runtime = probe_runtime(cgroups_, registry_->sandboxes().size(), registry_->containers().size());
  const bool ready = runtime.health != Health::kBad;
  add_condition(*answer.mutable_status(), runtime, ready ? "" : "NoCgroups", ready ? "" : runtime.found);
  add_condition(*answer.mutable_status(), probe_network(network), network.reason, network.message);
  const HandlerTable table = handlers_.table();
  if (const auto found = table.handlers.find(table.default_handler); found != table.handlers.end()) {
    add_handler(answer, "", features_.of(found->second));
  }
  for (const auto& [name, handler] : table.handlers) add_handler(answer, name, features_.of(handler));
  *answer.mutable_features() = runtime_features(features_.of(Handler()));
  if (!request.verbose()) return answer;
  spec::JsonWriter json;
  json.begin_object();
  json.key("root").string(options_.root_dir).key("state").string(options_.state_dir);
  json.key("shim").string(options_.shim_path).key("network").string(network.network);
  json.key("builtinNetwork").boolean(network.builtin).key("cgroupV2").boolean(host_.cgroup_v2);
  json.key("cgroupDriver").string(options_.cgroup_driver == CgroupDriver::kSystemd ? "systemd" : "cgroupfs");
  json.key("sandboxes").unsigned_number(registry_->sandboxes().size());
  json.key("containers").unsigned_number(registry_->containers().size());
  write_handlers(json, table, features_);
  json.end_object();
  (*answer.mutable_info())["berth"] = json.take();
  return answer;
}

Result<pb::RuntimeConfigResponse> ServiceImpl::runtime_config(const Call& /*call*/,
                                                              const pb::RuntimeConfigRequest& /*request*/) {
  pb::RuntimeConfigResponse answer;
  const bool systemd = options_.cgroup_driver == CgroupDriver::kSystemd;
  answer.mutable_linux()->set_cgroup_driver(systemd ? pb::SYSTEMD : pb::CGROUPFS);
  return answer;
}

Result<pb::UpdateRuntimeConfigResponse> ServiceImpl::update_runtime_config(
    const Call& /*call*/, const pb::UpdateRuntimeConfigRequest& request) {
  const auto& cidr = request.runtime_config().network_config().pod_cidr();
  if (cidr.size() > kMaxPodCidr) return fail(Code::kInvalid, "pod_cidr is longer than 256 bytes");
  // Berth takes its addresses from its own configuration or from a CNI plugin, so this is news only.
  if (!cidr.empty()) log_info("the kubelet tells the pod CIDR", {{"pod_cidr", cidr}});
  return pb::UpdateRuntimeConfigResponse();
}

}  // namespace berth::cri
