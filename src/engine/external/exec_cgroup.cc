#include "engine/external/exec_cgroup.h"

#include <fcntl.h>

#include <csignal>
#include <vector>

#include "base/strings.h"
#include "engine/process/cgroup.h"
#include "os/file.h"

namespace berth::engine::external {
namespace {

std::string relative(const std::string& path) {
  return path.substr(1);
}

bool in_unified(const os::CgroupLayout& layout, const std::string& path) {
  return layout.unified.valid() && os::open_at(layout.unified.get(), relative(path), O_PATH | O_DIRECTORY).has_value();
}

Result<> move_one(const os::CgroupLayout& layout, const std::string& path, pid_t pid) {
  const std::string file = relative(path) + "/cgroup.procs";
  for (const auto& hierarchy : layout.hierarchies) {
    BERTH_TRY(os::write_existing_at(hierarchy.root.get(), file, std::to_string(pid)), "move " + std::to_string(pid));
  }
  if (!layout.v2 && in_unified(layout, path)) {
    BERTH_TRY(os::write_existing_at(layout.unified.get(), file, std::to_string(pid)), "move " + std::to_string(pid));
  }
  return {};
}

// Of its first thread.
std::vector<pid_t> children_of(pid_t pid) {
  constexpr std::size_t kMaxList = 64U << 10;
  std::vector<pid_t> children;
  const std::string number = std::to_string(pid);
  const auto text = os::read_file("/proc/" + number + "/task/" + number + "/children", kMaxList);
  if (!text) return children;
  for (const auto word : split(*text, ' ')) {
    if (const auto child = parse_number<pid_t>(trim(word)); child && *child > 0) children.push_back(*child);
  }
  return children;
}

}  // namespace

Result<> make_exec_cgroup(const os::CgroupLayout& layout, const std::string& container, const std::string& sub) {
  const std::string path = container + "/" + sub;
  if (layout.v2) {
    // Not Cgroup::create(), which hands controllers down: the container's cgroup has processes of its own.
    BERTH_TRY(os::make_cgroup(layout.hierarchies.front().root.get(), path), "cgroup of the exec");
    return {};
  }
  BERTH_ASSIGN(const process::Cgroup group, process::Cgroup::locate(layout, path, sub), "cgroup of the exec");
  BERTH_TRY(group.create(true), "cgroup of the exec");
  if (in_unified(layout, container)) BERTH_TRY(os::make_cgroup(layout.unified.get(), path), "cgroup of the exec");
  return {};
}

Result<> move_to_exec_cgroup(const os::CgroupLayout& layout, const std::string& container, const std::string& sub,
                             pid_t pid) {
  constexpr std::size_t kMaxMoved = 256;
  // Each after its parent: who is born to a moved one is in the exec's cgroup already.
  std::vector<pid_t> all = {pid};
  for (std::size_t i = 0; i < all.size() && i < kMaxMoved; ++i) {
    BERTH_TRY(move_one(layout, container + "/" + sub, all[i]), "cgroup of the exec");
    for (const pid_t child : children_of(all[i])) all.push_back(child);
  }
  return {};
}

Result<bool> end_exec_cgroup(const os::CgroupLayout& layout, const std::string& container, const std::string& sub,
                             bool kill) {
  const std::string path = container + "/" + sub;
  BERTH_ASSIGN(const process::Cgroup group, process::Cgroup::from_saved(layout, path), "cgroup of the exec");
  if (kill) BERTH_TRY(group.kill_all(SIGKILL), "cgroup of the exec");
  BERTH_ASSIGN(const bool gone, group.remove_if_empty(), "cgroup of the exec");
  if (gone) forget_unified(layout, path);
  return gone;
}

void forget_unified(const os::CgroupLayout& layout, const std::string& container) {
  if (!layout.unified.valid() || container.size() < 2) return;
  ignore(os::remove_cgroup(layout.unified.get(), container), "what is still in it is told by the other hierarchies");
}

}  // namespace berth::engine::external
