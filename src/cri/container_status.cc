#include <algorithm>

#include "cri/container_view.h"
#include "cri/service_impl.h"
#include "spec/json_text.h"

namespace berth::cri {

namespace {

bool matches(const ContainerRecord& record, const pb::ContainerFilter& filter) {
  if (!filter.id().empty() && !record.id.starts_with(filter.id())) return false;
  if (!filter.pod_sandbox_id().empty() && !record.sandbox_id.starts_with(filter.pod_sandbox_id())) return false;
  if (filter.has_state() && filter.state().state() != cri_state(record)) return false;
  return std::ranges::all_of(filter.label_selector(), [&](const auto& wanted) {
    const auto found = record.config.labels().find(wanted.first);
    return found != record.config.labels().end() && found->second == wanted.second;
  });
}

std::string info_json(const ContainerRecord& record, const std::string& bundle, std::uint64_t log_dropped) {
  spec::JsonWriter json;
  json.begin_object();
  json.key("sandboxID").string(record.sandbox_id).key("pid").number(record.pid);
  json.key("phase").string(phase_name(record.phase)).key("bundle").string(bundle);
  json.key("cgroupsPath").string(record.cgroups_path);
  if (!record.log_path.empty()) json.key("logBytesDropped").number(static_cast<std::int64_t>(log_dropped));
  if (!record.process_json.empty()) json.key("process").raw(record.process_json);
  json.end_object();
  return json.take();
}

}  // namespace

pb::ContainerStatus container_status_of(const ContainerRecord& record) {
  pb::ContainerStatus status;
  status.set_id(record.id);
  *status.mutable_metadata() = record.config.metadata();
  status.set_state(cri_state(record));
  status.set_created_at(record.created_at_ns);
  status.set_started_at(record.started_at_ns);
  status.set_finished_at(record.finished_at_ns);
  status.set_exit_code(record.exit_code);
  *status.mutable_image() = record.config.image();
  status.set_image_ref(record.image_ref);
  status.set_image_id(record.image_id);
  status.set_reason(record.reason);
  status.set_message(record.message);
  *status.mutable_labels() = record.config.labels();
  *status.mutable_annotations() = record.config.annotations();
  *status.mutable_mounts() = record.config.mounts();
  status.set_log_path(record.log_path);
  *status.mutable_resources()->mutable_linux() = record.resources;
  auto* user = status.mutable_user()->mutable_linux();
  user->set_uid(record.user.uid);
  user->set_gid(record.user.gid);
  for (const auto group : record.user.groups) user->add_supplemental_groups(group);
  status.set_stop_signal(cri_signal(record.stop_signal));
  return status;
}

Result<pb::ContainerStatusResponse> ServiceImpl::container_status(const Call& /*call*/,
                                                                  const pb::ContainerStatusRequest& request) {
  BERTH_ASSIGN(const auto record, shown_container(request.container_id()), "ContainerStatus");
  pb::ContainerStatusResponse answer;
  *answer.mutable_status() = container_status_of(*record);
  if (request.verbose()) {
    (*answer.mutable_info())["berth"] = info_json(*record, dir_of(*record), stats_.log_dropped(record->id));
  }
  return answer;
}

Items ServiceImpl::container_items(const pb::ContainerFilter& filter) {
  return items_of(registry_->containers(), [filter, item = pb::Container(), scratch = std::string()](
                                               std::string& out, const ContainerRecord& record) mutable {
    if (!visible(record) || !matches(record, filter)) return false;
    item.set_id(record.id);
    item.set_pod_sandbox_id(record.sandbox_id);
    *item.mutable_metadata() = record.config.metadata();
    *item.mutable_image() = record.config.image();
    item.set_image_ref(record.image_ref);
    item.set_state(cri_state(record));
    item.set_created_at(record.created_at_ns);
    item.set_image_id(record.image_id);
    item.AppendToString(&out);
    put_map(out, pb::Container::kLabelsFieldNumber, record.config.labels(), scratch);
    put_map(out, pb::Container::kAnnotationsFieldNumber, record.config.annotations(), scratch);
    return true;
  });
}

}  // namespace berth::cri
