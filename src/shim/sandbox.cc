#include "shim/sandbox.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/namespace.h"
#include "os/root_path.h"
#include "os/systemd.h"
#include "os/user_namespace.h"

namespace berth::shim {
namespace {

Result<> mount_shm(const std::string& target, const SandboxConfig& config) {
  if (::mkdir(target.c_str(), 01777) != 0 && errno != EEXIST) return fail_errno(errno, "mkdir " + target);
  BERTH_ASSIGN(const UniqueFd context, os::fs_open("tmpfs"), "pod shm");
  BERTH_TRY(os::fs_set(context.get(), "size", std::to_string(config.shm_size_bytes).c_str()), "pod shm");
  BERTH_TRY(os::fs_set(context.get(), "mode", "1777"), "pod shm");
  if (const auto& user = config.user_namespace; user) {
    BERTH_TRY(os::fs_set(context.get(), "uid", std::to_string(user->root_uid).c_str()), "pod shm");
    BERTH_TRY(os::fs_set(context.get(), "gid", std::to_string(user->root_gid).c_str()), "pod shm");
  }
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
    const auto write = [&]() -> Result<> { return os::write_proc(proc.get(), "sys/" + path, value); };
    // Those of an IPC namespace obey its root and nobody else; before Linux 6.9 the host's root.
    const bool as_its_root = config.user_namespace && !path.starts_with("net/");
    auto written = as_its_root ? os::run_as_effective_user(config.user_namespace->root_uid, write) : write();
    if (!written && as_its_root && written.error().code() == Code::kDenied) written = write();
    BERTH_TRY(std::move(written), "sysctl " + name);
  }
  return {};
}

/// Enters what was made for the pod. Its user namespace is kept and not entered: the shim has work to do outside.
Result<> join_made(const PodUserNamespace& user) {
  const std::string fds = "/proc/self/fd/";
  BERTH_TRY(os::open_namespace(fds + std::to_string(user.fd), CLONE_NEWUSER), "user namespace");
  if (::fcntl(user.fd, F_SETFD, FD_CLOEXEC) != 0) return fail_errno(errno, "keep the user namespace");
  for (const auto& [number, flag] : {std::pair(user.ipc_fd, CLONE_NEWIPC), std::pair(user.uts_fd, CLONE_NEWUTS)}) {
    if (number < 0) continue;
    const UniqueFd fd(number);
    BERTH_TRY(os::join_namespaces(fd.get(), flag), "namespaces of the pod");
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

Result<> enter_scope(const SandboxConfig& config) {
  if (!config.systemd) return {};
  const os::SystemdUnit unit{config.systemd->scope, config.systemd->slice, false};
  const auto properties = os::scope_properties(unit, "pod " + config.sandbox_id);
  BERTH_TRY(os::start_scope_around(::getpid(), config.systemd->program, unit, properties), "scope of the pod");
  return {};
}

Result<> enter_sandbox(const SandboxConfig& config, const std::string& folder) {
  const bool made = config.user_namespace.has_value();
  if (made) BERTH_TRY(join_made(*config.user_namespace), "enter the pod");
  const bool new_ipc = config.pod_ipc && !made;
  const bool new_uts = config.pod_uts && !made;
  const int flags = CLONE_NEWNS | (new_ipc ? CLONE_NEWIPC : 0) | (new_uts ? CLONE_NEWUTS : 0);
  BERTH_TRY(leave_namespaces(flags), "namespaces of the pod");
  if (config.pod_uts && !config.hostname.empty()) BERTH_TRY(os::set_hostname(config.hostname), "hostname of the pod");
  BERTH_TRY(write_sysctls(config), "pod");
  if (config.pod_ipc && config.shm_size_bytes > 0) {
    BERTH_TRY(mount_shm(folder + "/shm", config), "shared memory of the pod");
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
