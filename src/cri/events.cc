#include "cri/events.h"

#include "cri/container_view.h"
#include "cri/sandbox_view.h"

namespace berth::cri {

namespace {

/// Seen by clients and in this state; 0: not seen.
template <class Record>
int seen(const Record* record) {
  return record != nullptr && visible(*record) ? static_cast<int>(cri_state(*record)) + 1 : 0;
}

}  // namespace

pb::ContainerEventType event_of_state(const SandboxRecord& record) {
  return cri_state(record) == pb::SANDBOX_READY ? pb::CONTAINER_STARTED_EVENT : pb::CONTAINER_STOPPED_EVENT;
}

pb::ContainerEventType event_of_state(const ContainerRecord& record) {
  switch (cri_state(record)) {
    case pb::CONTAINER_CREATED:
      return pb::CONTAINER_CREATED_EVENT;
    case pb::CONTAINER_RUNNING:
      return pb::CONTAINER_STARTED_EVENT;
    default:
      return pb::CONTAINER_STOPPED_EVENT;
  }
}

std::vector<pb::ContainerEventType> events_of(const SandboxRecord* before, const SandboxRecord* after) {
  const int old = seen(before);
  const int now = seen(after);
  if (old == now) return {};
  if (now == 0) return {pb::CONTAINER_DELETED_EVENT};
  const auto type = event_of_state(*after);
  if (old == 0 && type == pb::CONTAINER_STARTED_EVENT) return {pb::CONTAINER_CREATED_EVENT, type};
  return {type};
}

std::vector<pb::ContainerEventType> events_of(const ContainerRecord* before, const ContainerRecord* after) {
  const int old = seen(before);
  const int now = seen(after);
  if (old == now) return {};
  if (now == 0) return {pb::CONTAINER_DELETED_EVENT};
  return {event_of_state(*after)};
}

pb::ContainerEventResponse event_message(const Event& event) {
  pb::ContainerEventResponse message;
  message.set_container_id(event.object);
  message.set_container_event_type(event.type);
  message.set_created_at(event.at_ns);
  if (event.sandbox) *message.mutable_pod_sandbox_status() = sandbox_status_of(*event.sandbox);
  for (const auto& container : event.containers) {
    *message.add_containers_statuses() = container_status_of(*container);
  }
  return message;
}

}  // namespace berth::cri
