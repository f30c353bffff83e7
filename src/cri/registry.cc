#include "cri/registry.h"

#include <utility>

namespace berth::cri {

namespace {

template <class Map>
auto lookup(const Map& map, std::string_view id) -> typename Map::mapped_type {
  const auto found = map.find(id);
  return found == map.end() ? nullptr : found->second;
}

template <class Map>
Result<typename Map::mapped_type> lookup_prefix(const Map& map, std::string_view id, std::string_view what) {
  if (id.empty()) return fail(Code::kInvalid, "empty " + std::string(what) + " id");
  auto found = map.lower_bound(id);
  if (found == map.end() || !found->first.starts_with(id)) {
    return fail(Code::kNotFound, "no " + std::string(what) + " " + std::string(id));
  }
  if (found->first.size() == id.size()) return found->second;
  const auto next = std::next(found);
  if (next != map.end() && next->first.starts_with(id)) {
    return fail(Code::kInvalid, "more than one " + std::string(what) + " begins with " + std::string(id));
  }
  return found->second;
}

template <class Map>
auto values(const Map& map) -> std::vector<typename Map::mapped_type> {
  std::vector<typename Map::mapped_type> all;
  all.reserve(map.size());
  for (const auto& [id, record] : map) all.push_back(record);
  return all;
}

}  // namespace

SandboxPtr Registry::sandbox(std::string_view id) const {
  MutexLock lock(mutex_);
  return lookup(sandboxes_, id);
}

ContainerPtr Registry::container(std::string_view id) const {
  MutexLock lock(mutex_);
  return lookup(containers_, id);
}

Result<SandboxPtr> Registry::find_sandbox(std::string_view id) const {
  MutexLock lock(mutex_);
  return lookup_prefix(sandboxes_, id, "sandbox");
}

Result<ContainerPtr> Registry::find_container(std::string_view id) const {
  MutexLock lock(mutex_);
  return lookup_prefix(containers_, id, "container");
}

std::vector<SandboxPtr> Registry::sandboxes() const {
  MutexLock lock(mutex_);
  return values(sandboxes_);
}

std::vector<ContainerPtr> Registry::containers() const {
  MutexLock lock(mutex_);
  return values(containers_);
}

std::vector<ContainerPtr> Registry::containers_of(std::string_view sandbox_id) const {
  MutexLock lock(mutex_);
  const auto found = by_sandbox_.find(sandbox_id);
  return found == by_sandbox_.end() ? std::vector<ContainerPtr>() : values(found->second);
}

bool Registry::wait_container(std::string_view id, SteadyTime deadline,
                              const std::function<bool(const ContainerRecord*)>& ready) const {
  MutexLock lock(mutex_);
  for (;;) {
    if (ready(lookup(containers_, id).get())) return true;
    if (deadline == SteadyTime::max()) {
      changed_.wait(lock);
    } else if (changed_.wait_until(lock, deadline) == std::cv_status::timeout) {
      return ready(lookup(containers_, id).get());
    }
  }
}

std::vector<ContainerPtr> Registry::shown_containers(std::string_view sandbox_id) const {
  std::vector<ContainerPtr> shown;
  const auto found = by_sandbox_.find(sandbox_id);
  if (found == by_sandbox_.end()) return shown;
  for (const auto& [id, record] : found->second) {
    if (visible(*record)) shown.push_back(record);
  }
  return shown;
}

/// A container never changes its sandbox.
void Registry::keep(const ContainerPtr& record) {
  containers_[record->id] = record;
  by_sandbox_[record->sandbox_id][record->id] = record;
}

void Registry::tell(const std::vector<pb::ContainerEventType>& types, const std::string& object,
                    const std::string& sandbox_id, const SandboxPtr& sandbox) {
  for (const auto type : types) {
    const auto number = next_event_++;
    if (followers_.empty()) continue;
    const Event event{.number = number,
                      .type = type,
                      .object = object,
                      .at_ns = wall_now_ns(),
                      .sandbox = sandbox ? sandbox : lookup(sandboxes_, sandbox_id),
                      .containers = shown_containers(sandbox_id)};
    for (const auto& [follower, sink] : followers_) sink(event);
  }
}

void Registry::tell(const SandboxPtr& before, const SandboxPtr& after) {
  const auto& last = after ? after : before;
  if (last) tell(events_of(before.get(), after.get()), last->id, last->id, last);
}

void Registry::tell(const ContainerPtr& before, const ContainerPtr& after) {
  const auto& last = after ? after : before;
  if (last) tell(events_of(before.get(), after.get()), last->id, last->sandbox_id, nullptr);
}

std::uint64_t Registry::follow(EventSink sink) {
  MutexLock lock(mutex_);
  // Once for all pods: readers wait meanwhile.
  std::map<std::string_view, std::vector<ContainerPtr>> shown;
  for (const auto& [id, records] : by_sandbox_) shown[id] = shown_containers(id);
  const auto now = wall_now_ns();
  for (const auto& [id, record] : sandboxes_) {
    if (visible(*record)) sink({0, event_of_state(*record), id, now, record, shown[id]});
  }
  for (const auto& [sandbox_id, containers] : shown) {
    const auto sandbox = lookup(sandboxes_, sandbox_id);
    for (const auto& record : containers) sink({0, event_of_state(*record), record->id, now, sandbox, containers});
  }
  followers_.emplace(next_follower_, std::move(sink));
  return next_follower_++;
}

void Registry::unfollow(std::uint64_t follower) {
  MutexLock lock(mutex_);
  followers_.erase(follower);
}

template <class Record>
Result<> Registry::publish(Record record, Records<Record> Registry::* map) {
  BERTH_TRY(db_.put(record), "store the record of " + record.id);
  auto shared = std::make_shared<const Record>(std::move(record));
  MutexLock lock(mutex_);
  const auto before = lookup(this->*map, shared->id);
  keep(shared);
  changed_.notify_all();
  tell(before, shared);
  return {};
}

Result<> Registry::add(SandboxRecord record) {
  MutexLock write(write_mutex_);
  return publish(std::move(record), &Registry::sandboxes_);
}

Result<> Registry::add(ContainerRecord record) {
  MutexLock write(write_mutex_);
  return publish(std::move(record), &Registry::containers_);
}

Result<SandboxPtr> Registry::update_sandbox(const std::string& id, const std::function<bool(SandboxRecord&)>& change) {
  MutexLock write(write_mutex_);
  auto old = sandbox(id);
  if (!old) return fail(Code::kNotFound, "no sandbox " + id);
  SandboxRecord record = *old;
  if (!change(record)) return old;
  BERTH_TRY(publish(std::move(record), &Registry::sandboxes_), "change sandbox " + id);
  return sandbox(id);
}

Result<ContainerPtr> Registry::update_container(const std::string& id,
                                                const std::function<bool(ContainerRecord&)>& change) {
  MutexLock write(write_mutex_);
  auto old = container(id);
  if (!old) return fail(Code::kNotFound, "no container " + id);
  ContainerRecord record = *old;
  if (!change(record)) return old;
  BERTH_TRY(publish(std::move(record), &Registry::containers_), "change container " + id);
  return container(id);
}

Result<> Registry::erase_sandbox(const std::string& id) {
  MutexLock write(write_mutex_);
  BERTH_TRY(db_.erase_sandbox(id), "forget sandbox " + id);
  MutexLock lock(mutex_);
  const auto before = lookup(sandboxes_, id);
  sandboxes_.erase(id);
  tell(before, nullptr);
  return {};
}

Result<> Registry::erase_container(const std::string& id) {
  MutexLock write(write_mutex_);
  BERTH_TRY(db_.erase_container(id), "forget container " + id);
  MutexLock lock(mutex_);
  const auto before = lookup(containers_, id);
  containers_.erase(id);
  if (before) {
    const auto found = by_sandbox_.find(before->sandbox_id);
    found->second.erase(id);
    if (found->second.empty()) by_sandbox_.erase(found);
  }
  changed_.notify_all();
  tell(before, nullptr);
  return {};
}

Result<std::vector<std::string>> Registry::load(std::vector<Timeline>& timelines) {
  MutexLock write(write_mutex_);
  BERTH_ASSIGN(auto content, db_.load(), "read the state database");
  MutexLock lock(mutex_);
  for (auto& record : content.sandboxes) {
    keep(std::make_shared<const SandboxRecord>(std::move(record)));
  }
  for (auto& record : content.containers) {
    keep(std::make_shared<const ContainerRecord>(std::move(record)));
  }
  timelines = std::move(content.timelines);
  return std::move(content.unreadable);
}

}  // namespace berth::cri
