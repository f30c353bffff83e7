#include "cri/timeline.h"

#include <algorithm>
#include <utility>

#include "cri/blob.h"

namespace berth::cri {

namespace {

// Never used again for something else. An entry is its five fields in this order, begun by kAt.
enum Tag : std::uint16_t {
  kId = 1,
  kNamespace = 2,
  kName = 3,
  kContainer = 4,
  kRemoved = 5,
  kLeftOut = 6,
  kAt = 10,
  kTook = 11,
  kOperation = 12,
  kStep = 13,
  kError = 14,
};

// How much of its beginning a full timeline keeps: how the pod came to be is what is asked for most.
constexpr std::size_t kKeepFirst = 64;
constexpr std::size_t kMinPrefix = 4;

std::string cut(std::string text) {
  if (text.size() <= Timeline::kMaxText) return text;
  std::size_t end = Timeline::kMaxText;
  // Not within a character of UTF-8.
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  text.resize(end);
  return text;
}

void add_entry(Timeline& timeline, TimelineEntry entry) {
  entry.operation = cut(std::move(entry.operation));
  entry.step = cut(std::move(entry.step));
  entry.error = cut(std::move(entry.error));
  timeline.entries.push_back(std::move(entry));
  if (timeline.entries.size() <= Timeline::kMaxEntries) return;
  timeline.entries.erase(timeline.entries.begin() + kKeepFirst);
  ++timeline.left_out;
}

bool begins_with(const std::string& id, std::string_view object) {
  return object.size() >= kMinPrefix && id.starts_with(object);
}

bool matches(const Timeline& timeline, std::string_view object) {
  if (begins_with(timeline.sandbox_id, object) || timeline.pod_name == object) return true;
  const std::string& space = timeline.pod_namespace;
  if (object.starts_with(space) && object.substr(space.size()) == "/" + timeline.pod_name) return true;
  return std::ranges::any_of(timeline.containers, [&](const auto& id) { return begins_with(id, object); });
}

Result<> read_field(Timeline& timeline, const BlobField& field) {
  const std::string text(field.bytes);
  const auto number = [&](std::int64_t& out) -> Result<> {
    BERTH_ASSIGN(out, field.integer(), "timeline");
    return {};
  };
  std::int64_t value = 0;
  switch (field.tag) {
    case kId:
      timeline.sandbox_id = text;
      return {};
    case kNamespace:
      timeline.pod_namespace = text;
      return {};
    case kName:
      timeline.pod_name = text;
      return {};
    case kContainer:
      if (timeline.containers.size() < Timeline::kMaxContainers) timeline.containers.push_back(text);
      return {};
    case kRemoved:
      BERTH_TRY(number(value), "removed");
      timeline.removed = value != 0;
      return {};
    case kLeftOut:
      BERTH_TRY(number(value), "left out");
      timeline.left_out = static_cast<std::uint64_t>(std::max<std::int64_t>(value, 0));
      return {};
    case kAt:
      if (timeline.entries.size() >= Timeline::kMaxEntries) return fail(Code::kCorrupt, "too many entries");
      timeline.entries.emplace_back();
      return number(timeline.entries.back().at_ns);
    default:
      break;
  }
  if (timeline.entries.empty()) return {};
  TimelineEntry& entry = timeline.entries.back();
  if (field.tag == kTook) return number(entry.took_us);
  if (field.tag == kOperation) entry.operation = cut(text);
  if (field.tag == kStep) entry.step = cut(text);
  if (field.tag == kError) entry.error = cut(text);
  return {};
}

}  // namespace

std::string encode(const Timeline& timeline) {
  BlobWriter blob;
  blob.put(kId, timeline.sandbox_id);
  blob.put(kNamespace, timeline.pod_namespace);
  blob.put(kName, timeline.pod_name);
  for (const auto& id : timeline.containers) blob.put(kContainer, id);
  if (timeline.removed) blob.put_int(kRemoved, 1);
  if (timeline.left_out != 0) blob.put_int(kLeftOut, static_cast<std::int64_t>(timeline.left_out));
  for (const auto& entry : timeline.entries) {
    blob.put_int(kAt, entry.at_ns);
    blob.put_int(kTook, entry.took_us);
    blob.put(kOperation, entry.operation);
    if (!entry.step.empty()) blob.put(kStep, entry.step);
    if (!entry.error.empty()) blob.put(kError, entry.error);
  }
  return blob.take();
}

Result<Timeline> decode_timeline(std::string_view blob) {
  BERTH_ASSIGN(const auto fields, read_blob(blob), "timeline");
  Timeline timeline;
  for (const auto& field : fields) BERTH_TRY(read_field(timeline, field), "timeline");
  if (timeline.sandbox_id.empty()) return fail(Code::kCorrupt, "a timeline without an id");
  return timeline;
}

void Timelines::load(std::vector<Timeline> stored, const std::function<bool(const std::string& id)>& there) {
  const auto begin_of = [](const Timeline& timeline) {
    return timeline.entries.empty() ? std::int64_t{0} : timeline.entries.front().at_ns;
  };
  std::ranges::sort(stored, {}, begin_of);
  MutexLock disk(disk_mutex_);
  {
    MutexLock lock(mutex_);
    for (auto& timeline : stored) {
      const std::string id = timeline.sandbox_id;
      // The record goes first, and a daemon that dies then has not come to say so here.
      timeline.removed = timeline.removed || !there(id);
      if (timeline.removed) removed_.push_back(id);
      held_[id] = {std::move(timeline), next_order_++};
    }
  }
  drop_oldest_removed();
}

void Timelines::begin(const std::string& sandbox_id, const std::string& pod_namespace, const std::string& pod_name) {
  MutexLock lock(mutex_);
  Held& held = held_[sandbox_id];
  if (held.order == 0) held.order = next_order_++;
  held.timeline.sandbox_id = sandbox_id;
  held.timeline.pod_namespace = pod_namespace;
  held.timeline.pod_name = pod_name;
}

void Timelines::note(const std::string& sandbox_id, const std::string& container_id,
                     std::vector<TimelineEntry> entries) {
  MutexLock disk(disk_mutex_);
  std::string blob;
  {
    MutexLock lock(mutex_);
    const auto found = held_.find(sandbox_id);
    if (found == held_.end()) return;
    Timeline& timeline = found->second.timeline;
    const bool known =
        container_id.empty() || std::ranges::find(timeline.containers, container_id) != timeline.containers.end();
    if (!known && timeline.containers.size() < Timeline::kMaxContainers) timeline.containers.push_back(container_id);
    for (auto& entry : entries) add_entry(timeline, std::move(entry));
    blob = encode(timeline);
  }
  disk_.store(sandbox_id, blob);
}

void Timelines::drop_oldest_removed() {
  std::vector<std::string> dropped;
  {
    MutexLock lock(mutex_);
    while (removed_.size() > kMaxRemoved) {
      held_.erase(removed_.front());
      dropped.push_back(std::move(removed_.front()));
      removed_.pop_front();
    }
  }
  for (const auto& id : dropped) disk_.forget(id);
}

void Timelines::removed(const std::string& sandbox_id) {
  MutexLock disk(disk_mutex_);
  {
    MutexLock lock(mutex_);
    const auto found = held_.find(sandbox_id);
    if (found == held_.end() || found->second.timeline.removed) return;
    found->second.timeline.removed = true;
    removed_.push_back(sandbox_id);
  }
  drop_oldest_removed();
}

std::vector<Timeline> Timelines::find(std::string_view object) const {
  MutexLock lock(mutex_);
  std::vector<const Held*> found;
  for (const auto& [id, held] : held_) {
    if (matches(held.timeline, object)) found.push_back(&held);
  }
  std::ranges::sort(found, {}, &Held::order);
  std::vector<Timeline> all;
  all.reserve(found.size());
  for (const Held* held : found) all.push_back(held->timeline);
  return all;
}

}  // namespace berth::cri
