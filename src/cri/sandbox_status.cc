#include <algorithm>

#include "cri/container_view.h"
#include "cri/pod_resources.h"
#include "cri/sandbox_view.h"
#include "cri/service_impl.h"
#include "spec/json_text.h"

namespace berth::cri {

namespace {

bool has_labels(const google::protobuf::Map<std::string, std::string>& labels,
                const google::protobuf::Map<std::string, std::string>& wanted) {
  return std::ranges::all_of(wanted, [&](const auto& entry) {
    const auto found = labels.find(entry.first);
    return found != labels.end() && found->second == entry.second;
  });
}

bool matches(const SandboxRecord& record, const pb::PodSandboxFilter& filter) {
  if (!filter.id().empty() && !record.id.starts_with(filter.id())) return false;
  if (filter.has_state() && filter.state().state() != cri_state(record)) return false;
  return has_labels(record.config.labels(), filter.label_selector());
}

}  // namespace

pb::PodSandboxStatus sandbox_status_of(const SandboxRecord& record) {
  pb::PodSandboxStatus status;
  status.set_id(record.id);
  *status.mutable_metadata() = record.config.metadata();
  status.set_state(cri_state(record));
  status.set_created_at(record.created_at_ns);
  if (!record.host_network) {
    auto* network = status.mutable_network();
    const bool up = record.state == SandboxState::kReady;
    for (std::size_t i = 0; up && i < record.network.ips.size(); ++i) {
      if (i == 0) {
        network->set_ip(record.network.ips[i]);
      } else {
        network->add_additional_ips()->set_ip(record.network.ips[i]);
      }
    }
  }
  auto* options = status.mutable_linux()->mutable_namespaces()->mutable_options();
  const auto& security = record.config.linux().security_context();
  *options = security.namespace_options();
  if (!security.has_namespace_options()) options->set_pid(pb::CONTAINER);
  *status.mutable_labels() = record.config.labels();
  *status.mutable_annotations() = record.config.annotations();
  status.set_runtime_handler(record.handler);
  return status;
}

namespace {

std::string info_json(const SandboxRecord& record) {
  spec::JsonWriter json;
  json.begin_object();
  json.key("state").string(state_name(record.state)).key("pid").number(record.shim_pid);
  if (record.init_pid != 0) json.key("initPid").number(record.init_pid);
  json.key("message").string(record.message).key("cgroupParent").string(record.cgroup_parent);
  json.key("network").string(record.network.network).key("gateway").string(record.network.gateway);
  json.key("mac").string(record.network.mac).key("networkHeld").boolean(record.network_held);
  json.key("resources");
  write_resources_json(json, record.config.linux().resources());
  json.key("overhead");
  write_resources_json(json, record.config.linux().overhead());
  json.end_object();
  return json.take();
}

}  // namespace

Result<pb::PodSandboxStatusResponse> ServiceImpl::pod_sandbox_status(const Call& /*call*/,
                                                                     const pb::PodSandboxStatusRequest& request) {
  BERTH_ASSIGN(const auto record, shown_sandbox(request.pod_sandbox_id()), "PodSandboxStatus");
  pb::PodSandboxStatusResponse answer;
  *answer.mutable_status() = sandbox_status_of(*record);
  for (const auto& container : registry_->containers_of(record->id)) {
    if (visible(*container)) *answer.add_containers_statuses() = container_status_of(*container);
  }
  answer.set_timestamp(wall_now_ns());
  if (request.verbose()) (*answer.mutable_info())["berth"] = info_json(*record);
  return answer;
}

Items ServiceImpl::pod_sandbox_items(const pb::PodSandboxFilter& filter) {
  return items_of(registry_->sandboxes(), [filter, item = pb::PodSandbox(), scratch = std::string()](
                                              std::string& out, const SandboxRecord& record) mutable {
    if (!visible(record) || !matches(record, filter)) return false;
    item.set_id(record.id);
    *item.mutable_metadata() = record.config.metadata();
    item.set_state(cri_state(record));
    item.set_created_at(record.created_at_ns);
    item.set_runtime_handler(record.handler);
    item.AppendToString(&out);
    put_map(out, pb::PodSandbox::kLabelsFieldNumber, record.config.labels(), scratch);
    put_map(out, pb::PodSandbox::kAnnotationsFieldNumber, record.config.annotations(), scratch);
    return true;
  });
}

}  // namespace berth::cri
