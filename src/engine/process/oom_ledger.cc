#include "engine/process/oom_ledger.h"

#include <algorithm>
#include <optional>

#include "os/cgroup_usage.h"

namespace berth::engine::process {

namespace {

std::string above(const std::string& path) {
  return path.substr(0, std::min(path.rfind('/'), path.size()));
}

std::optional<std::uint64_t> counted(const os::CgroupLayout& layout, const std::string& path) {
  return os::cgroup_oom_count(layout, std::vector<std::string>(layout.hierarchies.size(), path));
}

}  // namespace

OomLedger::Slice* OomLedger::slice_of(const std::string& path) {
  const auto found = slices_.find(above(path));
  return found == slices_.end() || !found->second.members.contains(path) ? nullptr : &found->second;
}

void OomLedger::add(const os::CgroupLayout& layout, const std::string& path) {
  const auto [slice, fresh] = slices_.try_emplace(above(path));
  if (fresh) slice->second.before = counted(layout, slice->first).value_or(0);
  slice->second.members.emplace(path, 0);
}

std::uint64_t OomLedger::kills(const os::CgroupLayout& layout, const std::string& path) {
  Slice* const slice = slice_of(path);
  if (slice == nullptr) return 0;
  // The kernel counts in the member first and above it afterwards: read the other way about, nobody is blamed for what
  // another has just counted.
  const std::uint64_t all = counted(layout, above(path)).value_or(0);
  std::uint64_t others = slice->before + slice->forgotten;
  for (auto& [other, known] : slice->members) {
    if (const auto now = counted(layout, other)) known = std::max(known, *now);
    if (other != path) others += known;
  }
  std::uint64_t& own = slice->members[path];
  if (!counted(layout, path) && all > others) own = std::max(own, all - others);
  return own;
}

void OomLedger::forget(const os::CgroupLayout& layout, const std::string& path) {
  Slice* const slice = slice_of(path);
  if (slice == nullptr) return;
  const auto own = slice->members.find(path);
  slice->forgotten += std::max(own->second, counted(layout, path).value_or(0));
  slice->members.erase(own);
}

}  // namespace berth::engine::process
