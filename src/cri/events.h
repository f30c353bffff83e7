#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cri/records.h"

namespace berth::cri {

/// One change of a sandbox or container that clients can see. Durable before anybody is told.
struct Event {
  std::uint64_t number = 0;  ///< of this daemon's life, without gaps; 0: the state that a follower begins with
  pb::ContainerEventType type = pb::CONTAINER_CREATED_EVENT;
  std::string object;  ///< container or sandbox id
  std::int64_t at_ns = 0;
  SandboxPtr sandbox;                    ///< after the change, or as it was last; nullptr: not known any more
  std::vector<ContainerPtr> containers;  ///< of the sandbox after the change, those that lists show
};

/// Takes events one at a time, in their order. Must not block nor call the registry.
using EventSink = std::function<void(const Event&)>;

/// What a change means to clients: none, or several events in their order. `before`/`after` nullptr: was or is not
/// there.
[[nodiscard]] std::vector<pb::ContainerEventType> events_of(const SandboxRecord* before, const SandboxRecord* after);
[[nodiscard]] std::vector<pb::ContainerEventType> events_of(const ContainerRecord* before,
                                                            const ContainerRecord* after);
/// The one event that tells the present state.
[[nodiscard]] pb::ContainerEventType event_of_state(const SandboxRecord& record);
[[nodiscard]] pb::ContainerEventType event_of_state(const ContainerRecord& record);

/// The message of GetContainerEvents.
[[nodiscard]] pb::ContainerEventResponse event_message(const Event& event);

}  // namespace berth::cri
