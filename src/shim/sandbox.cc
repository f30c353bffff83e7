#include "shim/sandbox.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/namespace.h"
#include "os/root_path.h"

namespace berth::shim {
namespace {

Result<> mount_shm(const std::string& target, std::uint64_t size_bytes) {
  if (::mkdir(target.c_str(), 01777) != 0 && errno != EEXIST) return fail_errno(errno, "mkdir " + target);
  BERTH_ASSIGN(const UniqueFd context, os::fs_open("tmpfs"), "pod shm");
  BERTH_TRY(os::fs_set(context.get(), "size", std::to_string(size_bytes).c_str()), "pod shm");
  BERTH_TRY(os::fs_set(context.get(), "mode", "1777"), "pod shm");
  BERTH_ASSIGN(const UniqueFd tree,
               os::fs_mount(context.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC), "pod shm");
  return os::attach_tree_at(tree.get(), target);
}

// The sysctls of a network namespace must not reach the host's: a pod on the host's network gets none.
Result<> check_own_network() {
  BERTH_ASSIGN(const UniqueFd own, os::open_namespace("/proc/self/ns/net", CLONE_NEWNET), "own network namespace");
  auto host = os::open_namespace("/proc/1/ns/net", CLONE_NEWNET);
  if (host && os::same_namespace(own.get(), host->get())) {
    return fail(Code::kDenied, "net.* sysctls need a network namespace of the pod's own");
  }
  return {};
}

Result<> write_sysctls(const SandboxConfig& config) {
  if (config.sysctls.empty()) return {};
  BERTH_ASSIGN(const UniqueFd proc, os::open_verified_proc(), "sysctls");
  bool network_checked = false;
  for (const auto& [name, value] : config.sysctls) {
    BERTH_ASSIGN(const std::string path, sysctl_path(name), "sysctls");
    if (!path.starts_with("net/")) {
      if (!config.pod_ipc) return fail(Code::kDenied, "sysctl " + name + " needs an IPC namespace of the pod's own");
    } else if (!network_checked) {
      BERTH_TRY(check_own_network(), "sysctl " + name);
      network_checked = true;
    }
    BERTH_TRY(os::write_proc(proc.get(), "sys/" + path, value), "sysctl " + name);
  }
  return {};
}

/// unshare(2) with CLONE_NEWNS among `flags`: mounts come in, and none go out.
Result<> leave_namespaces(int flags) {
  BERTH_TRY(os::unshare_namespaces(flags), "unshare");
  os::MountChange slave;
  slave.propagation = MS_SLAVE;
  return os::change_mount_at("/", slave, true);
}

}  // namespace

Result<> enter_private_mounts() {
  return leave_namespaces(CLONE_NEWNS);
}

Result<> enter_sandbox(const SandboxConfig& config, const std::string& folder) {
  const int flags = CLONE_NEWNS | (config.pod_ipc ? CLONE_NEWIPC : 0) | (config.pod_uts ? CLONE_NEWUTS : 0);
  BERTH_TRY(leave_namespaces(flags), "namespaces of the pod");
  if (config.pod_uts && !config.hostname.empty()) BERTH_TRY(os::set_hostname(config.hostname), "hostname of the pod");
  BERTH_TRY(write_sysctls(config), "pod");
  if (config.pod_ipc && config.shm_size_bytes > 0) {
    BERTH_TRY(mount_shm(folder + "/shm", config.shm_size_bytes), "shared memory of the pod");
  }
  return {};
}

OomProtection protect_from_oom() {
  constexpr const char* kFile = "/proc/self/oom_score_adj";
  OomProtection result;
  // Lowering needs CAP_SYS_RESOURCE; without it the shim lives with what it has. No warning for each pod.
  const auto old_text = os::read_file(kFile, 32);
  const auto old_value = old_text ? parse_number<int>(trim(*old_text)) : std::nullopt;
  if (!old_value || *old_value <= -998) return result;
  if (!os::write_existing(kFile, "-998")) return result;
  result.changed = true;
  result.before = *old_value;
  return result;
}

}  // namespace berth::shim
