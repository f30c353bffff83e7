#include <fcntl.h>

#include <algorithm>
#include <ctime>

#include "base/clock.h"
#include "base/strings.h"
#include "engine/process/cgroup.h"
#include "os/cgroup_usage.h"
#include "os/file.h"

namespace berth::engine::process {

namespace {

/// Whether a v1 limit stood in the way: counted, or seen by the highest usage, since kernels do not count all of them.
bool reached_v1(int dir_fd, const std::string& prefix) {
  constexpr std::uint64_t kCharge = 256U << 10;  // what the kernel asks for at once
  const std::uint64_t limit = os::cgroup_number(dir_fd, (prefix + "limit_in_bytes").c_str());
  if (limit == 0) return false;
  if (os::cgroup_number(dir_fd, (prefix + "failcnt").c_str()) > 0) return true;
  return os::cgroup_number(dir_fd, (prefix + "max_usage_in_bytes").c_str()) + kCharge >= limit;
}

}  // namespace

Result<Stats> Cgroup::stats() const {
  if (layout_ == nullptr || paths_.empty()) return Stats{.timestamp_ns = wall_now_ns()};
  BERTH_ASSIGN(const UniqueFd there, open_dir("pids"), "stats");  // of one that is gone there are none
  return os::cgroup_usage(*layout_, paths_);
}

std::uint64_t Cgroup::oom_kills() const {
  return layout_ == nullptr || paths_.empty() ? 0 : os::cgroup_oom_kills(*layout_, paths_);
}

std::string Cgroup::oom_cause() const {
  const auto* const hierarchy = layout_ == nullptr ? nullptr : layout_->find("memory");
  if (hierarchy == nullptr || paths_.empty()) return {};
  const std::string own = paths_[static_cast<std::size_t>(hierarchy - layout_->hierarchies.data())];
  for (std::string path = own; path.size() > 1; path.resize(std::max<std::size_t>(path.rfind('/'), 1))) {
    const auto dir = os::open_at(hierarchy->root.get(), path.substr(1), O_PATH | O_DIRECTORY);
    if (!dir) continue;
    const std::uint64_t limit = os::cgroup_number(dir->get(), v2() ? "memory.max" : "memory.limit_in_bytes");
    // Of this cgroup itself and not of one below.
    const bool reached = v2() ? os::cgroup_keyed(os::cgroup_text(dir->get(), "memory.events.local"), "oom") > 0
                              : reached_v1(dir->get(), "memory.") || reached_v1(dir->get(), "memory.memsw.");
    if (!reached || limit == 0) continue;
    const std::string bytes = " of " + std::to_string(limit) + " bytes was reached";
    if (path == own) return "the container's memory limit" + bytes;
    return "the memory limit of the cgroup " + path + " above it" + bytes;
  }
  return "the machine was out of memory";
}

}  // namespace berth::engine::process
