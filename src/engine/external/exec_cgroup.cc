#include "engine/external/exec_cgroup.h"

#include <fcntl.h>

#include <csignal>

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
