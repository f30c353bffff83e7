#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>

#include "engine/process/finish.h"
#include "engine/process/idmap.h"
#include "engine/process/launch.h"
#include "engine/process/scheduling.h"
#include "engine/process/sysctl.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/namespace.h"

namespace berth::engine::process {

namespace {

/// A mount of ours to copy; nothing when we may not copy any, since then the child will, in its own mount namespace.
Result<UniqueFd> try_clone(int dir_fd, const std::string& path, bool recursive) {
  auto tree = os::clone_tree(dir_fd, path, recursive);
  if (!tree && tree.error().errno_value() == EPERM && ::geteuid() != 0) return UniqueFd();
  return tree;
}

Result<> sort_namespaces(const spec::Linux& config, Launch& launch) {
  for (const auto& entry : config.namespaces) {
    const int flag = clone_flag_of(entry.type);
    if (entry.path.empty()) {
      launch.new_namespaces |= static_cast<std::uint64_t>(static_cast<unsigned>(flag));
      continue;
    }
    BERTH_ASSIGN(UniqueFd fd, os::open_namespace(entry.path, flag), "linux.namespaces");
    if (entry.type == spec::NamespaceType::kPid) {
      launch.pid_join = std::move(fd);
    } else if (entry.type == spec::NamespaceType::kUser) {
      launch.user_join = std::move(fd);
    } else {
      launch.joins.push_back({flag, std::move(fd)});
    }
  }
  return {};
}

/// The root of a joined mount namespace is changed for all that live in it, which must not be the caller or the host.
Result<> check_mount_join(const Launch& launch) {
  for (const auto& join : launch.joins) {
    if (join.clone_flag != CLONE_NEWNS) continue;
    for (const char* path : {"/proc/self/ns/mnt", "/proc/1/ns/mnt"}) {
      const auto theirs = os::open_file(path, O_RDONLY);
      if (!theirs || !os::same_namespace(theirs->get(), join.fd.get())) continue;
      return fail(Code::kInvalid, "linux.namespaces: the mount namespace to join is that of " + std::string(path) +
                                      ", whose root would be changed");
    }
  }
  return {};
}

/// What it mounts would be in the caller's mount namespace, below the one folder that is unmounted at the end.
Result<> check_shared_mounts(const spec::Linux& config, const Launch& launch) {
  if (!launch.shares_mounts) return {};
  if (launch.request->shared_root.empty()) {
    return fail(Code::kUnsupported, "a container without a mount namespace has no place for its mounts here");
  }
  if (launch.in_user_namespace()) {
    return fail(Code::kInvalid, "a container with a user namespace has no right to mount without a mount namespace");
  }
  if (!config.rootfs_propagation.empty()) {
    return fail(Code::kInvalid, "linux.rootfsPropagation is set without a mount namespace");
  }
  return {};
}

Result<> check_fields(const spec::Spec& spec, const Launch& launch) {
  const auto& config = *spec.linux;
  const auto has = [&config](spec::NamespaceType type) { return config.find_namespace(type) != nullptr; };
  BERTH_TRY(check_shared_mounts(config, launch), "mount");
  BERTH_TRY(check_mount_join(launch), "mount");
  if (!spec.hostname.empty() && !has(spec::NamespaceType::kUts)) {
    return fail(Code::kInvalid, "hostname is set without a uts namespace: it would change the host's");
  }
  if (!spec.domainname.empty() && !has(spec::NamespaceType::kUts)) {
    return fail(Code::kInvalid, "domainname is set without a uts namespace: it would change the host's");
  }
  if (!config.time_offsets.empty() && !launch.makes(CLONE_NEWTIME)) {
    return fail(Code::kInvalid, "linux.timeOffsets are set without a new time namespace");
  }
  if (launch.makes(CLONE_NEWUSER) && (config.uid_mappings.empty() || config.gid_mappings.empty())) {
    return fail(Code::kInvalid, "a new user namespace needs linux.uidMappings and linux.gidMappings");
  }
  if (config.memory_policy) BERTH_TRY(memory_policy(*config.memory_policy), "linux.memoryPolicy");
  if (spec.process->exec_cpu_affinity) {
    BERTH_TRY(parse_id_list(spec.process->exec_cpu_affinity->initial), "process.execCPUAffinity.initial");
    BERTH_TRY(parse_id_list(spec.process->exec_cpu_affinity->final_cpus), "process.execCPUAffinity.final");
  }
  if (config.seccomp && config.seccomp->listener_path.empty() && !config.seccomp->listener_metadata.empty()) {
    return fail(Code::kInvalid, "linux.seccomp.listenerMetadata is set without listenerPath");
  }
  if (!config.mount_label.empty() && !selinux_active()) {
    return fail(Code::kUnsupported, "linux.mountLabel is set, but SELinux is not active on this host");
  }
  if (!config.net_devices.empty() && !has(spec::NamespaceType::kNetwork)) {
    return fail(Code::kInvalid, "linux.netDevices need a network namespace: unable to move them into none");
  }
  return check_sysctls(config);
}

/// Whether the child finds the same by this path: not where it leads through a descriptor or into procfs, which show
/// each process its own.
Result<bool> same_for_child(const std::string& path) {
  auto there = os::open_in(AT_FDCWD, path, O_PATH, RESOLVE_NO_MAGICLINKS);
  if (!there && there.error().errno_value() == ELOOP) return false;
  if (!there) return fail(std::move(there).error());
  struct statfs fs{};
  if (::fstatfs(there->get(), &fs) != 0) return fail_errno(errno, "statfs " + path);
  return fs.f_type != PROC_SUPER_MAGIC;
}

/// Whether what is mounted in it from inside is to show where its source is. Only a copy that is made here belongs to
/// the source's peers: in the child's mount namespace everything is cut off from ours.
bool joins_peers(const PlannedMount& mount, const Launch& launch) {
  const auto& steps = mount.options.propagation;
  return launch.mounts.base_propagation == MS_SHARED && !steps.empty() && steps.back().type == MS_SHARED;
}

Result<> open_source(const PlannedMount& mount, Launch& launch, std::size_t index) {
  const auto& given = launch.request->mount_trees;
  if (const auto tree = given.find(mount.spec_index); tree != given.end()) {
    BERTH_ASSIGN(launch.bind_trees[index], os::dup_fd(tree->second.get()), "source");
    return {};
  }
  const bool joins_mounts =
      std::ranges::any_of(launch.joins, [](const auto& join) { return join.clone_flag == CLONE_NEWNS; });
  if (!joins_mounts && !launch.in_user_namespace() && !mount.options.idmap && !joins_peers(mount, launch)) {
    // Mountinfo lists mounts by their age since Linux 6.8: made by the child, a copy has its place among its others.
    BERTH_ASSIGN(const bool same, same_for_child(mount.source), "source");
    if (same) return {};
  }
  BERTH_ASSIGN(launch.bind_trees[index], try_clone(AT_FDCWD, mount.source, mount.options.recursive_bind), "source");
  return {};
}

Result<> open_mounts(const CreateRequest& request, Launch& launch) {
  launch.bind_trees.resize(launch.mounts.mounts.size());
  launch.id_maps.resize(launch.mounts.mounts.size());
  for (std::size_t i = 0; i < launch.mounts.mounts.size(); ++i) {
    const auto& mount = launch.mounts.mounts[i];
    const auto& config = request.spec.mounts[mount.spec_index];
    const std::string where = "mounts[" + std::to_string(mount.spec_index) + "]";
    if (mount.kind == MountKind::kBind) BERTH_TRY(open_source(mount, launch, i), where);
    if (!mount.options.idmap) continue;
    BERTH_ASSIGN(launch.id_maps[i], open_id_map(request.spec, config), where);
    if (mount.kind != MountKind::kBind) continue;
    BERTH_TRY(apply_id_map(launch.bind_trees[i].get(), launch.id_maps[i].get(), mount.options.recursive_idmap), where);
  }
  return {};
}

Result<> open_root(const CreateRequest& request, Launch& launch) {
  if (request.root_mount.valid()) {
    BERTH_ASSIGN(launch.root_tree, os::dup_fd(request.root_mount.get()), "root file system");
    return {};
  }
  const std::string whole = in_bundle(request.spec.root->path, request.bundle);
  // A bundle's rootfs may be a link on the host: that is the caller's affair. A rootfs that is no folder is not.
  struct stat st{};
  if (::stat(whole.c_str(), &st) != 0) return fail_errno(errno, "root.path " + whole);
  if (!S_ISDIR(st.st_mode)) return fail(Code::kInvalid, "root.path " + whole + " is not a folder");
  BERTH_ASSIGN(launch.root_tree, try_clone(AT_FDCWD, whole, true), "root.path");
  return {};
}

/// sysfs shows a network namespace and may be mounted by its owner alone: a container in a user namespace that stays in
/// the host's network is shown the host's, without what is mounted below it. Where we may not copy it, the child shows
/// all that there is.
Result<> open_sysfs(Launch& launch) {
  if (!launch.in_user_namespace() || launch.makes(CLONE_NEWNET)) return {};
  if (std::ranges::none_of(launch.mounts.mounts, [](const auto& mount) { return mount.type == "sysfs"; })) return {};
  BERTH_ASSIGN(launch.sysfs_tree, try_clone(AT_FDCWD, "/sys", false), "sysfs of the host");
  if (!launch.sysfs_tree.valid()) return {};
  // What the container gets on it (cgroups, masks) must not show on the host's.
  return os::change_mount(launch.sysfs_tree.get(), {0, 0, MS_PRIVATE, -1}, false);
}

Result<> open_devices(const spec::Spec& spec, Launch& launch) {
  BERTH_ASSIGN(const auto nodes, plan_devices(spec), "devices");
  if (!launch.in_user_namespace() || !launch.mounts.make_devices) return {};
  for (const auto& node : nodes) {
    BERTH_ASSIGN(UniqueFd tree, try_clone(AT_FDCWD, node.path, false), "device " + node.path + " of the host");
    launch.device_trees.push_back(std::move(tree));
  }
  return {};
}

}  // namespace

int clone_flag_of(spec::NamespaceType type) {
  switch (type) {
    case spec::NamespaceType::kPid:
      return CLONE_NEWPID;
    case spec::NamespaceType::kNetwork:
      return CLONE_NEWNET;
    case spec::NamespaceType::kMount:
      return CLONE_NEWNS;
    case spec::NamespaceType::kIpc:
      return CLONE_NEWIPC;
    case spec::NamespaceType::kUts:
      return CLONE_NEWUTS;
    case spec::NamespaceType::kUser:
      return CLONE_NEWUSER;
    case spec::NamespaceType::kCgroup:
      return CLONE_NEWCGROUP;
    case spec::NamespaceType::kTime:
      return CLONE_NEWTIME;
  }
  return 0;
}

bool Launch::in_user_namespace() const {
  return makes(CLONE_NEWUSER) || user_join.valid();
}

Result<Launch> prepare_launch(const CreateRequest& request) {
  const spec::Spec& spec = request.spec;
  if (!spec.process) return fail(Code::kInvalid, "process is missing: there is nothing to run");
  if (!spec.linux) return fail(Code::kInvalid, "linux is missing");
  if (!spec.root && !request.root_mount.valid()) return fail(Code::kInvalid, "root is missing");
  Launch launch;
  launch.request = &request;
  launch.spec = &spec;
  launch.shares_mounts = spec.linux->find_namespace(spec::NamespaceType::kMount) == nullptr;
  BERTH_TRY(sort_namespaces(*spec.linux, launch), "namespaces");
  BERTH_TRY(check_fields(spec, launch), "config");
  BERTH_ASSIGN(launch.mounts, plan_mounts(spec, request.bundle), "config");
  BERTH_TRY(open_root(request, launch), "config");
  BERTH_TRY(open_mounts(request, launch), "config");
  BERTH_TRY(open_devices(spec, launch), "config");
  BERTH_TRY(open_sysfs(launch), "config");
  launch.console = spec.process->terminal;
  return launch;
}

}  // namespace berth::engine::process
