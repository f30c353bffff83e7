#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>

#include "engine/process/hooks.h"
#include "engine/process/idmap.h"
#include "engine/process/launch.h"
#include "engine/process/protocol.h"
#include "engine/process/sysctl.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/root_path.h"

namespace berth::engine::process {

namespace {

constexpr unsigned kPermissionBits = 07777;
constexpr mode_t kFolderMode = 0755;
constexpr mode_t kPrivateMode = 0700;

/// Builds the root step by step; one object per container, in the child.
class RootBuilder {
 public:
  explicit RootBuilder(Launch& launch) : launch_(launch), spec_(*launch.spec) {}

  Result<> attach_root();
  Result<> make_mounts();
  Result<UniqueFd> make_console_if_asked();
  Result<> seal();
  Result<> enter();
  [[nodiscard]] int root() const { return root_.get(); }

 private:
  Result<> mount_one(const PlannedMount& mount, std::size_t index);
  Result<> mount_bind(const PlannedMount& mount, std::size_t index);
  Result<> mount_filesystem(const PlannedMount& mount, std::size_t index);
  Result<UniqueFd> filesystem_target(const PlannedMount& mount, bool& existed);
  Result<UniqueFd> new_filesystem(const PlannedMount& mount, const struct stat* underneath);
  Result<UniqueFd> host_sysfs(MountOptions options);
  Result<> change_attributes(int tree_fd, const MountOptions& options);

  Launch& launch_;
  const spec::Spec& spec_;
  UniqueFd root_;
  UniqueFd devpts_;
  std::vector<KernelMount> kernel_mounts_;  ///< that can still be seen
};

Result<> RootBuilder::attach_root() {
  // Nothing that happens in this mount namespace may reach the one it was copied from: not our attaching on "/", and
  // not the unmounting of the copies when the old root goes.
  if (!launch_.shares_mounts) {
    BERTH_TRY(os::change_mount_at("/", {0, 0, MS_SLAVE, -1}, true), "cut the propagation to the host");
    // Hooks that run in this namespace would see it.
    if (!spec_.hooks) park_own_view();
  }
  if (launch_.root_tree.valid()) {
    BERTH_ASSIGN(root_, os::dup_fd(launch_.root_tree.get()), "root file system");
  } else {
    const std::string path = in_bundle(spec_.root->path, launch_.request->bundle);
    BERTH_ASSIGN(root_, os::clone_tree(AT_FDCWD, path, true), "root file system");
  }
  if (launch_.shares_mounts) {
    BERTH_TRY(os::change_mount(root_.get(), {0, 0, MS_PRIVATE, -1}, true), "root file system");
    BERTH_TRY(os::make_dirs(launch_.request->shared_root, kPrivateMode), "root file system");
    return os::attach_tree_at(root_.get(), launch_.request->shared_root);
  }
  // A copy of a host mount, made here or by the caller: what is mounted below it on the host later shows inside, as
  // with every runtime, unless rootfsPropagation is private; what is mounted inside never shows outside.
  const std::uint64_t type = launch_.mounts.base_propagation == MS_PRIVATE ? MS_PRIVATE : MS_SLAVE;
  BERTH_TRY(os::change_mount(root_.get(), {0, 0, type, -1}, true), "root file system");
  // Hooks look for the root where the bundle has it. Else it does not matter where it is attached, since the old root
  // goes as a whole; "/" is always there.
  if (spec_.hooks && spec_.root) {
    if (os::attach_tree_at(root_.get(), in_bundle(spec_.root->path, launch_.request->bundle))) return {};
  }
  return os::attach_tree_at(root_.get(), "/");
}

Result<> RootBuilder::change_attributes(int tree_fd, const MountOptions& options) {
  const os::MountChange own{options.set, options.clear, 0, -1};
  const os::MountChange all{options.recursive_set, options.recursive_clear, 0, -1};
  if (!own.empty()) BERTH_TRY(os::change_mount(tree_fd, own, false), "options");
  if (!all.empty()) BERTH_TRY(os::change_mount(tree_fd, all, true), "recursive options");
  for (const auto& step : options.propagation) {
    BERTH_TRY(os::change_mount(tree_fd, {0, 0, step.type, -1}, step.recursive), "propagation");
  }
  return {};
}

Result<> RootBuilder::mount_bind(const PlannedMount& mount, std::size_t index) {
  UniqueFd own;
  int tree = launch_.bind_trees[index].get();
  if (tree < 0) {
    BERTH_ASSIGN(own, os::clone_tree(AT_FDCWD, mount.source, mount.options.recursive_bind), "source");
    tree = own.get();
  }
  struct stat st{};
  if (::fstat(tree, &st) != 0) return fail_errno(errno, "stat the source " + mount.source);
  auto target =
      S_ISDIR(st.st_mode) ? os::make_dir_in_root(root(), mount.target) : os::make_file_in_root(root(), mount.target);
  if (!target) return fail(std::move(target).error().in("target"));
  if (launch_.mounts.base_propagation != MS_SHARED) {
    BERTH_TRY(os::change_mount(tree, {0, 0, launch_.mounts.base_propagation, -1}, true), "propagation");
  }
  BERTH_TRY(change_attributes(tree, mount.options), "bind mount");
  return os::attach_tree(tree, target->get());
}

/// The folder to mount on. procfs and sysfs must lie where the specification says and not behind a link of the image's,
/// since what masks them and what programs expect goes by these names. Source: CVE-2019-19921.
Result<UniqueFd> RootBuilder::filesystem_target(const PlannedMount& mount, bool& existed) {
  const bool straight = mount.type == "proc" || mount.type == "sysfs";
  if (!straight) return os::make_dir_in_root(root(), mount.target, kFolderMode, &existed);
  constexpr std::uint64_t resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS;
  auto there = os::open_in(root(), mount.target, O_PATH | O_DIRECTORY, resolve);
  existed = there.has_value();
  if (!there && there.error().errno_value() == ENOENT) {
    BERTH_ASSIGN(const UniqueFd made, os::make_dir_in_root(root(), mount.target), "make the folder");
    there = os::open_in(root(), mount.target, O_PATH | O_DIRECTORY, resolve);
  }
  if (!there && there.error().errno_value() == ELOOP) {
    return fail(Code::kInvalid,
                mount.type + " must be mounted on an ordinary folder, " + mount.target + " leads through a link");
  }
  return there;
}

Result<UniqueFd> RootBuilder::new_filesystem(const PlannedMount& mount, const struct stat* underneath) {
  BERTH_ASSIGN(const UniqueFd context, os::fs_open(mount.type), "file system");
  if (!mount.source.empty()) BERTH_TRY(os::fs_set(context.get(), "source", mount.source.c_str()), "source");
  bool has_mode = false;
  for (const auto& entry : mount.options.data) {
    has_mode = has_mode || entry.key == "mode";
    BERTH_TRY(os::fs_set(context.get(), entry.key, entry.value ? entry.value->c_str() : nullptr), "option");
  }
  if (mount.type == "tmpfs" && !has_mode && underneath != nullptr) {
    // A tmpfs over a folder of the image looks like that folder.
    std::string octal;
    for (unsigned mode = underneath->st_mode & kPermissionBits, i = 0; i < 4; ++i, mode >>= 3U) {
      octal.insert(octal.begin(), static_cast<char>('0' + (mode & 7U)));
    }
    BERTH_TRY(os::fs_set(context.get(), "mode", octal.c_str()), "option");
  }
  // Copying into it comes before it is read-only.
  const std::uint64_t late = mount.options.copy_up ? static_cast<std::uint64_t>(MOUNT_ATTR_RDONLY) : 0;
  return os::fs_mount(context.get(), mount.options.set & ~late);
}

/// See open_sysfs().
Result<UniqueFd> RootBuilder::host_sysfs(MountOptions options) {
  UniqueFd tree = std::move(launch_.sysfs_tree);
  if (!tree.valid()) {
    BERTH_ASSIGN(tree, os::clone_tree(AT_FDCWD, "/sys", true), "copy");
    // What comes along from below is no less of the host's.
    options.recursive_set |= options.set;
  }
  BERTH_TRY(change_attributes(tree.get(), options), "attributes");
  return tree;
}

Result<> RootBuilder::mount_filesystem(const PlannedMount& mount, std::size_t index) {
  bool existed = false;
  BERTH_ASSIGN(const UniqueFd target, filesystem_target(mount, existed), "target");
  struct stat underneath{};
  if (existed && mount.type == "tmpfs" && ::fstat(target.get(), &underneath) != 0) return fail_errno(errno, "stat");
  auto made = new_filesystem(mount, existed && mount.type == "tmpfs" ? &underneath : nullptr);
  UniqueFd tree;
  if (made) {
    tree = std::move(*made);
  } else if (mount.type == "sysfs" && made.error().errno_value() == EPERM) {
    BERTH_ASSIGN(tree, host_sysfs(mount.options), "sysfs of the host");
  } else {
    return fail(std::move(made).error());
  }
  if (mount.options.idmap) {
    BERTH_TRY(apply_id_map(tree.get(), launch_.id_maps[index].get(), mount.options.recursive_idmap), "id map");
  }
  if (mount.options.copy_up && existed) {
    BERTH_TRY(copy_up(target.get(), tree.get()), "tmpcopyup");
    if ((mount.options.set & MOUNT_ATTR_RDONLY) != 0) {
      BERTH_TRY(os::change_mount(tree.get(), {MOUNT_ATTR_RDONLY, 0, 0, -1}, false), "read-only");
    }
  }
  MountOptions rest = mount.options;
  rest.set = rest.clear = 0;  // fsmount has them
  BERTH_TRY(change_attributes(tree.get(), rest), "file system");
  if (!mount.file_label.empty()) {
    BERTH_ASSIGN(const UniqueFd folder, os::open_at(tree.get(), ".", O_RDONLY | O_DIRECTORY), "label");
    const std::string& label = mount.file_label;
    if (::fsetxattr(folder.get(), "security.selinux", label.c_str(), label.size() + 1, 0) != 0) {
      return fail_errno(errno, "label " + label);
    }
  }
  BERTH_TRY(os::attach_tree(tree.get(), target.get()), "attach");
  if (mount.type == "devpts") {
    devpts_ = std::move(tree);
  } else if (mount.type == "proc" || mount.type == "sysfs") {
    kernel_mounts_.push_back({mount.target, std::move(tree)});
  }
  return {};
}

Result<> RootBuilder::mount_one(const PlannedMount& mount, std::size_t index) {
  std::erase_if(kernel_mounts_, [&mount](const auto& covered) {
    return covered.target == mount.target || covered.target.starts_with(mount.target + "/");
  });
  switch (mount.kind) {
    case MountKind::kBind:
      return mount_bind(mount, index);
    case MountKind::kFilesystem:
      return mount_filesystem(mount, index);
    case MountKind::kCgroup: {
      BERTH_TRY(join_pending_cgroup(launch_), "join");
      BERTH_ASSIGN(const UniqueFd target, os::make_dir_in_root(root(), mount.target), "target");
      return mount_cgroup(launch_, mount, root(), target.get());
    }
  }
  return {};
}

Result<> RootBuilder::make_mounts() {
  for (std::size_t i = 0; i < launch_.mounts.mounts.size(); ++i) {
    const auto& mount = launch_.mounts.mounts[i];
    auto done = mount_one(mount, i);
    if (!done) {
      const std::string what = mount.kind == MountKind::kBind ? mount.source : mount.type;
      return fail(std::move(done).error().in("mount " + what + " to " + mount.target));
    }
  }
  if (launch_.mounts.make_devices) BERTH_TRY(make_devices(launch_, root()), "devices");
  if (!spec_.process->cwd.empty() && spec_.process->cwd != "/") {
    // Made when missing, as every runtime does; errors show when it is entered, as the user who may see more than root.
    ignore(os::make_dir_in_root(root(), spec_.process->cwd), "chdir reports what is wrong");
  }
  return {};
}

Result<UniqueFd> RootBuilder::make_console_if_asked() {
  if (!launch_.console) return UniqueFd();
  return make_console(launch_, root(), devpts_.get());
}

Result<> RootBuilder::seal() {
  BERTH_TRY(mask_paths(*spec_.linux, root(), kernel_mounts_), "paths");
  if (spec_.root->readonly) {
    BERTH_TRY(os::change_mount(root(), {MOUNT_ATTR_RDONLY, 0, 0, -1}, false), "read-only root");
  }
  return {};
}

Result<> RootBuilder::enter() {
  if (launch_.shares_mounts) return os::chroot_into(root());
  if (launch_.request->no_pivot) {
    BERTH_TRY(os::chroot_into(root()), "enter the root without pivot");
  } else {
    BERTH_TRY(os::pivot_into(root()), "enter the root");
  }
  const auto& final_step = launch_.mounts.root_propagation;
  if (final_step.type == 0 || final_step.type == MS_SLAVE) return {};
  return os::change_mount_at("/", {0, 0, final_step.type, -1}, final_step.recursive);
}

}  // namespace

Result<UniqueFd> enter_rootfs(Launch& launch, int proc_fd) {
  RootBuilder builder(launch);
  const auto& spec = *launch.spec;
  BERTH_TRY(builder.attach_root(), "rootfs");
  BERTH_TRY(builder.make_mounts(), "rootfs");
  BERTH_TRY(join_pending_cgroup(launch), "rootfs");
  BERTH_ASSIGN(UniqueFd console, builder.make_console_if_asked(), "console");
  // Before the masks: a mask may cover what a hook or a sysctl has to reach.
  BERTH_TRY(write_sysctls(*spec.linux, proc_fd), "linux.sysctl");
  if (spec.hooks && (!spec.hooks->prestart.empty() || !spec.hooks->create_runtime.empty())) {
    BERTH_TRY(send_signal(launch.channel, Signal::kHooks), "hooks");
    BERTH_TRY(expect_signal(launch.channel, Signal::kGo), "hooks");
  }
  if (spec.hooks) {
    const std::string state =
        hook_state(launch.request->id, launch.request->bundle, spec, spec::Status::kCreating, ::getpid());
    BERTH_TRY(run_hooks(spec.hooks->create_container, "createContainer", state), "hooks");
  }
  BERTH_TRY(builder.seal(), "rootfs");
  BERTH_TRY(builder.enter(), "rootfs");
  return console;
}

}  // namespace berth::engine::process
