#include "cri/stuck_tasks.h"

#include <csignal>
#include <set>

#include "base/strings.h"
#include "os/file.h"
#include "os/pidfd.h"

namespace berth::cri {

namespace {

constexpr std::size_t kMaxProcFile = 1U << 20;
constexpr std::size_t kMaxTold = 8;
constexpr int kMaxDepth = 8;  // a container may have cgroups of its own; deeper ones belong to nobody we name

void add_pids(int root_fd, const std::string& path, int depth, std::set<pid_t>& pids) {
  const auto text = os::read_file_at(root_fd, path.substr(1) + "/cgroup.procs", kMaxProcFile);
  if (!text) return;
  for (const auto line : split(trim(*text), '\n')) {
    if (const auto pid = parse_number<pid_t>(line)) pids.insert(*pid);
  }
  if (depth >= kMaxDepth) return;
  const auto children = os::child_cgroups(root_fd, path);
  for (const auto& name : children ? *children : std::vector<std::string>()) {
    add_pids(root_fd, path + "/" + name, depth + 1, pids);
  }
}

std::set<pid_t> pids_in(const os::CgroupLayout& cgroups, const std::string& path) {
  std::set<pid_t> pids;
  if (path.size() < 2) return pids;  // never the whole machine
  for (const auto& hierarchy : cgroups.hierarchies) add_pids(hierarchy.root.get(), path, 0, pids);
  return pids;
}

}  // namespace

std::string stuck_task(pid_t pid) {
  const std::string folder = "/proc/" + std::to_string(pid);
  // PID (NAME) STATE ...; the name may hold brackets and spaces (proc(5)).
  const auto stat = os::read_file(folder + "/stat", kMaxProcFile);
  if (!stat) return {};
  const auto open = stat->find('(');
  const auto close = stat->rfind(") ");
  if (open == std::string::npos || close == std::string::npos || close < open) return {};
  if (close + 2 >= stat->size() || (*stat)[close + 2] != 'D') return {};
  std::string text =
      "process " + std::to_string(pid) + " (" + stat->substr(open + 1, close - open - 1) + ") is in state D";
  const auto where = os::read_file(folder + "/wchan", kMaxProcFile);
  if (where && trim(*where).size() > 1) text.append(" (").append(trim(*where)).append(")");
  return text;
}

std::string stuck_tasks(const os::CgroupLayout& cgroups, const std::string& path) {
  std::vector<std::string> found;
  for (const pid_t pid : pids_in(cgroups, path)) {
    if (found.size() >= kMaxTold) break;
    if (auto text = stuck_task(pid); !text.empty()) found.push_back(std::move(text));
  }
  return join(found, ", ");
}

void kill_tasks(const os::CgroupLayout& cgroups, const std::string& path) {
  for (const pid_t pid : pids_in(cgroups, path)) {
    // The descriptor first, then the look: the process that is looked at is the one that is killed.
    const auto pidfd = os::open_pidfd(pid);
    const auto groups = os::read_file("/proc/" + std::to_string(pid) + "/cgroup", kMaxProcFile);
    if (!pidfd || !groups || !groups->contains(path)) continue;
    ignore(os::pidfd_signal(pidfd->get(), SIGKILL), "it may have ended just now");
  }
}

}  // namespace berth::cri
