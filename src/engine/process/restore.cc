#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "base/strings.h"
#include "engine/process/cgroup.h"
#include "engine/process/checkpoint.h"
#include "engine/process/criu.h"
#include "engine/process/hooks.h"
#include "engine/process/mount_plan.h"
#include "engine/process/protocol.h"
#include "os/clone.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/namespace.h"
#include "os/netns.h"
#include "os/pidfd.h"
#include "os/process_attr.h"
#include "os/root_path.h"
#include "os/socket.h"

namespace berth::engine::process {

namespace {

constexpr std::size_t kSmallFile = 64U << 10;
constexpr int kFirstPassed = 4;  // after stdio and criu's socket
constexpr mode_t kPrivateMode = 0700;

/// The root as criu wants it: a mount whose name nothing covers. In a mount namespace of criu's own, so that nothing of
/// it is ever on the host, whatever happens to criu or us.
class Stage {
 public:
  Stage(const RestoreRequest& request, const MountPlan& plan) : request_(request), plan_(plan) {}

  /// In the process that becomes criu. Calls `tell` with the place of each bind mount, in the plan's order.
  Result<> make(const std::function<Result<>(const std::string&)>& tell);

 private:
  Result<> attach_root();
  Result<> attach_trees();
  Result<> cover_null();
  Result<> make_mount_point(int root_fd, const PlannedMount& mount,
                            const std::function<Result<>(const std::string&)>& tell);
  [[nodiscard]] bool on_tmpfs(const PlannedMount& mount) const;

  const RestoreRequest& request_;
  const MountPlan& plan_;
};

Result<> Stage::attach_root() {
  const std::string path = in_bundle(request_.container.spec.root->path, request_.container.bundle);
  BERTH_ASSIGN(const UniqueFd tree, os::clone_tree(AT_FDCWD, path, true), "root file system");
  const std::uint64_t type = plan_.base_propagation == MS_PRIVATE ? MS_PRIVATE : MS_SLAVE;
  BERTH_TRY(os::change_mount(tree.get(), {0, 0, type, -1}, true), "root file system");
  return os::attach_tree_at(tree.get(), request_.root_folder);
}

/// What is more than a path gets one here: criu knows sources by their names alone.
Result<> Stage::attach_trees() {
  for (const auto& mount : plan_.mounts) {
    const auto found = request_.container.mount_trees.find(mount.spec_index);
    if (mount.kind != MountKind::kBind || found == request_.container.mount_trees.end()) continue;
    BERTH_TRY(os::change_mount(found->second.get(), {0, 0, MS_PRIVATE, -1}, true), mount.target);
    BERTH_TRY(os::attach_tree_at(found->second.get(), mount.source), mount.target);
  }
  return {};
}

/// What a mask of the host's null device is made of: read-only here, so that no mode or owner of the host's can be
/// changed through it. criu itself gives only the first of several such mounts its flags back.
Result<> Stage::cover_null() {
  if (request_.container.spec.linux->masked_paths.empty()) return {};
  BERTH_ASSIGN(const UniqueFd tree, os::clone_tree(AT_FDCWD, "/dev/null", false), "null device");
  constexpr std::uint64_t attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
  BERTH_TRY(os::change_mount(tree.get(), {attributes, 0, MS_PRIVATE, -1}, false), "null device");
  return os::attach_tree_at(tree.get(), "/dev/null");
}

/// What lies in a tmpfs comes with its contents.
bool Stage::on_tmpfs(const PlannedMount& mount) const {
  for (const auto& other : plan_.mounts) {
    if (other.type == "tmpfs" && mount.target.starts_with(other.target + "/")) return true;
  }
  return false;
}

/// Makes what the mount is to lie on, as its creation had, and tells where that is. The mount itself is made too for as
/// long as others may lie in it.
Result<> Stage::make_mount_point(int root_fd, const PlannedMount& mount,
                                 const std::function<Result<>(const std::string&)>& tell) {
  // "/sys/fs/cgroup" and its like come with the file system that they are in.
  if (mount.kind == MountKind::kCgroup) return {};
  if (on_tmpfs(mount)) return mount.kind == MountKind::kBind ? tell(mount.target) : Result<>();
  UniqueFd tree;
  bool folder = true;
  if (mount.kind == MountKind::kBind) {
    BERTH_ASSIGN(tree, os::clone_tree(AT_FDCWD, mount.source, mount.options.recursive_bind), "source " + mount.source);
    struct stat st{};
    if (::fstat(tree.get(), &st) != 0) return fail_errno(errno, "stat " + mount.source);
    folder = S_ISDIR(st.st_mode);
  }
  BERTH_ASSIGN(const UniqueFd target,
               folder ? os::make_dir_in_root(root_fd, mount.target) : os::make_file_in_root(root_fd, mount.target),
               mount.target);
  if (mount.kind != MountKind::kBind) return {};
  BERTH_ASSIGN(const std::string place, fd_path(target.get()), mount.target);
  if (!place.starts_with(request_.root_folder + "/")) return fail(Code::kInvalid, mount.target + " is not in the root");
  BERTH_TRY(tell(place.substr(request_.root_folder.size())), mount.target);
  return os::attach_tree(tree.get(), target.get());
}

Result<> Stage::make(const std::function<Result<>(const std::string&)>& tell) {
  BERTH_TRY(os::unshare_namespaces(CLONE_NEWNS), "mount namespace for criu");
  BERTH_TRY(os::change_mount_at("/", {0, 0, MS_SLAVE, -1}, true), "cut the propagation to the host");
  if (request_.container.root_mount.valid()) {
    // Old kernels copy attached mounts alone; in this namespace it has a name and is still nobody else's.
    const std::string path = in_bundle(request_.container.spec.root->path, request_.container.bundle);
    BERTH_TRY(os::attach_tree_at(request_.container.root_mount.get(), path), "root file system");
  }
  BERTH_TRY(attach_trees(), "mounts");
  BERTH_TRY(attach_root(), "prepare the root");
  {
    BERTH_ASSIGN(const UniqueFd root, os::open_file(request_.root_folder, O_PATH | O_DIRECTORY), "prepare the root");
    for (const auto& mount : plan_.mounts) BERTH_TRY(make_mount_point(root.get(), mount, tell), "mounts");
  }
  BERTH_TRY(os::detach_mount(request_.root_folder), "prepare the root");
  BERTH_TRY(cover_null(), "masks");
  return attach_root();
}

/// One restore. What it makes outside of itself is the folder for the root; the rest ends with criu.
class Restore {
 public:
  Restore(const RestoreRequest& request, const Cgroup& cgroup, const std::function<Result<>(pid_t)>& joined)
      : request_(request), spec_(request.container.spec), cgroup_(cgroup), joined_(joined) {}
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;
  Restore(Restore&&) = delete;
  Restore& operator=(Restore&&) = delete;
  ~Restore() {
    ::rmdir(request_.root_folder.c_str());
    for (const auto& place : tree_places_) {
      if (::rmdir(place.c_str()) != 0) ::unlink(place.c_str());
    }
  }

  Result<Process> run();

 private:
  Result<> set_streams();
  Result<> set_namespaces();
  Result<> set_mounts();
  Result<> make_tree_places();
  Result<os::Child> start(int socket_fd);
  [[noreturn]] void become_criu(int socket_fd, int channel_fd);
  Result<> send_folders(int channel_fd);
  Result<> place_descriptors(int socket_fd, int& channel_fd);
  Result<> hear_stage(int channel_fd);
  Result<> complete(pid_t pid, CriuSettings& settings);
  Result<> on_notice(CriuNotice& notice);
  Result<> namespaces_are_there(pid_t pid);
  Result<> know(pid_t pid);
  Result<> freeze();
  Result<> check_restraints() const;

  const RestoreRequest& request_;
  const spec::Spec& spec_;
  const Cgroup& cgroup_;
  pid_t criu_pid_ = -1;
  const std::function<Result<>(pid_t)>& joined_;
  std::string program_;
  MountPlan plan_;
  CriuSettings settings_;
  CgroupEntry entry_;
  std::vector<UniqueFd> passed_;          ///< criu's descriptors from kFirstPassed up
  std::vector<UniqueFd> folders_;         ///< of images and work, as criu's mount namespace has them
  std::vector<std::string> places_;       ///< of bind mounts, as the stage told
  std::vector<std::string> tree_places_;  ///< beside the root's folder
  Process process_;
};

Result<> Restore::set_streams() {
  BERTH_ASSIGN(const std::string text,
               os::read_file(request_.options.criu.image_path + "/descriptors.json", kSmallFile), "checkpoint");
  BERTH_ASSIGN(const auto stdio, read_descriptors(text), "checkpoint");
  for (std::size_t i = 0; i < stdio.size(); ++i) {
    if (stdio[i].starts_with("pipe:")) settings_.inherit_fds.emplace_back(stdio[i], static_cast<int>(i));
  }
  return {};
}

Result<> Restore::set_namespaces() {
  for (const auto& entry : spec_.linux->namespaces) {
    if (entry.path.empty()) continue;
    const std::string name(spec::namespace_name(entry.type));
    const bool network = entry.type == spec::NamespaceType::kNetwork;
    const bool joined = entry.type == spec::NamespaceType::kIpc || entry.type == spec::NamespaceType::kUts;
    if ((network || joined) && is_own_namespace(entry.path, network ? "net" : name)) continue;
    if (entry.type == spec::NamespaceType::kCgroup || entry.type == spec::NamespaceType::kTime) {
      return fail(Code::kUnsupported, "criu cannot restore into a " + name + " namespace by path");
    }
    if (network || entry.type == spec::NamespaceType::kPid) {
      const int flag = network ? CLONE_NEWNET : CLONE_NEWPID;
      BERTH_ASSIGN(UniqueFd fd, os::open_namespace(entry.path, flag), "linux.namespaces");
      settings_.inherit_fds.emplace_back(external_namespace_key(entry.type),
                                         kFirstPassed + static_cast<int>(passed_.size()));
      passed_.push_back(std::move(fd));
    } else {
      settings_.join_namespaces.emplace_back(entry.type == spec::NamespaceType::kMount ? "mnt" : name, entry.path);
    }
  }
  return {};
}

/// Where the stage attaches what is more than a path: empty on the host, and gone with us.
Result<> Restore::make_tree_places() {
  for (auto& mount : plan_.mounts) {
    const auto found = request_.container.mount_trees.find(mount.spec_index);
    if (mount.kind != MountKind::kBind || found == request_.container.mount_trees.end()) continue;
    struct stat st{};
    if (::fstat(found->second.get(), &st) != 0) return fail_errno(errno, "stat the source of " + mount.target);
    mount.source = request_.root_folder + "." + std::to_string(mount.spec_index);
    tree_places_.push_back(mount.source);
    if (S_ISDIR(st.st_mode)) {
      BERTH_TRY(os::make_dirs(mount.source, kPrivateMode), mount.target);
    } else {
      BERTH_ASSIGN(const UniqueFd file, os::open_file(mount.source, O_WRONLY | O_CREAT, 0600), mount.target);
    }
  }
  return {};
}

/// What is known before the stage is there; see complete().
Result<> Restore::set_mounts() {
  BERTH_ASSIGN(plan_, plan_mounts(spec_, request_.container.bundle), "config");
  BERTH_TRY(make_tree_places(), "mounts");
  BERTH_ASSIGN(const auto shown, cgroup_bind_mounts(spec_, cgroup_), "cgroup");
  for (const auto& mount : plan_.mounts) {
    if (mount.kind != MountKind::kCgroup) continue;
    for (const auto& [name, source] : shown) settings_.ext_mounts.emplace_back(mount.target + name, source);
  }
  if (!spec_.linux->masked_paths.empty()) settings_.ext_mounts.emplace_back("/dev/null", "/dev/null");
  for (const auto& device : spec_.linux->devices) settings_.ext_mounts.emplace_back(device.path, device.path);
  return {};
}

/// criu's descriptors in their places, `channel_fd` behind them until exec, nothing else.
Result<> Restore::place_descriptors(int socket_fd, int& channel_fd) {
  const auto& stdio = request_.container.stdio;
  std::vector<int> sources{stdio.in, stdio.out, stdio.err, socket_fd};
  for (const auto& fd : passed_) sources.push_back(fd.get());
  const int end = static_cast<int>(sources.size());
  BERTH_ASSIGN(UniqueFd null, os::open_file("/dev/null", O_RDWR | O_NOCTTY), "descriptors");
  // First away from each other's places: plain numbers, since exec ends them all.
  for (int& fd : sources) {
    fd = ::fcntl(fd < 0 ? null.get() : fd, F_DUPFD_CLOEXEC, end + 1);
    if (fd < 0) return fail_errno(errno, "descriptors");
  }
  const int channel = ::fcntl(channel_fd, F_DUPFD_CLOEXEC, end + 1);
  if (channel < 0) return fail_errno(errno, "descriptors");
  [[maybe_unused]] const int given_up = null.release();  // it may lie in one of the places
  for (int i = 0; i < end; ++i) {
    if (::dup2(sources[static_cast<std::size_t>(i)], i) < 0) return fail_errno(errno, "descriptors");
  }
  if (::dup3(channel, end, O_CLOEXEC) < 0) return fail_errno(errno, "descriptors");
  channel_fd = end;
  return os::close_from(static_cast<unsigned>(end) + 1);
}

/// criu takes its folders from our descriptors and mounts in them, which it may only in its own mount namespace.
Result<> Restore::send_folders(int channel_fd) {
  const auto& options = request_.options.criu;
  for (const std::string& path : {options.image_path, options.work_path}) {
    if (path.empty()) continue;
    os::ChannelMessage message;
    message.kind = static_cast<std::uint32_t>(Signal::kReady);
    BERTH_ASSIGN(message.fd, os::open_file(path, O_RDONLY | O_DIRECTORY), "folder for criu");
    BERTH_TRY(os::send_message(channel_fd, message), "folder for criu");
  }
  return {};
}

void Restore::become_criu(int socket_fd, int channel_fd) {
  Result<> done = entry_.enter();
  if (done) {
    done = Stage(request_, plan_).make([channel_fd](const std::string& place) {
      os::ChannelMessage message;
      message.kind = static_cast<std::uint32_t>(Signal::kReady);
      message.text = place;
      return os::send_message(channel_fd, message);
    });
  }
  if (done) done = send_folders(channel_fd);
  if (done) done = place_descriptors(socket_fd, channel_fd);
  if (done) {
    os::reset_signals();
    std::string words[] = {program_, "swrk", "3"};
    char* const argv[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
    done = os::exec_program(program_.c_str(), argv, ::environ);
  }
  ignore(send_error(channel_fd, done.error()), "nobody is left to tell");
  ::_exit(1);
}

/// Until criu runs: what the stage found, or what it failed on.
Result<> Restore::hear_stage(int channel_fd) {
  while (true) {
    auto message = os::receive_message(channel_fd);
    if (!message) {
      if (message.error().code() == Code::kUnavailable) return {};
      return fail(std::move(message).error());
    }
    if (message->kind != static_cast<std::uint32_t>(Signal::kReady)) return fail(error_of(*message));
    if (places_.size() + folders_.size() > plan_.mounts.size() + 1) {
      return fail(Code::kInternal, "more places than mounts");
    }
    if (message->fd.valid()) {
      folders_.push_back(std::move(message->fd));
    } else {
      places_.push_back(std::move(message->text));
    }
  }
}

Result<os::Child> Restore::start(int socket_fd) {
  BERTH_ASSIGN(auto channel, os::unix_socketpair(), "criu");
  os::CloneOptions options;
  options.cgroup_fd = entry_.v2_dir.get();
  BERTH_ASSIGN(os::Cloned cloned, os::clone_process(options), "criu");
  if (cloned.pid == 0) become_criu(socket_fd, channel.second.get());
  channel.second.reset();
  os::Child child{cloned.pid, std::move(cloned.pidfd)};
  if (auto heard = hear_stage(channel.first.get()); !heard) {
    ignore(os::pidfd_signal(child.pidfd.get(), SIGKILL), "it may have ended");
    ignore(os::wait_exit(child), "the first failure is the one to tell");
    return fail(std::move(heard).error());
  }
  return child;
}

Result<> Restore::complete(pid_t pid, CriuSettings& settings) {
  criu_pid_ = pid;
  std::size_t next = 0;
  for (const auto& mount : plan_.mounts) {
    if (mount.kind != MountKind::kBind) continue;
    if (next == places_.size()) return fail(Code::kInternal, "fewer places than mounts");
    settings.ext_mounts.emplace_back(places_[next++], mount.source);
  }
  if (folders_.empty()) return fail(Code::kInternal, "no folders for criu");
  settings.images_dir_fd = folders_.front().get();
  if (settings.work_dir_fd >= 0) settings.work_dir_fd = folders_.back().get();
  // The cgroups that it was born in are the container's; what was dumped under another name goes there.
  BERTH_ASSIGN(const std::string text, os::read_file("/proc/" + std::to_string(pid) + "/cgroup", kSmallFile), "cgroup");
  for (const auto line : split(text, '\n')) {
    const auto first = line.find(':');
    const auto second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos || cgroup_.empty()) continue;
    for (const auto controller : split(line.substr(first + 1, second - first - 1), ',')) {
      settings.cgroup_roots.emplace_back(controller, line.substr(second + 1));
    }
  }
  return {};
}

Result<> Restore::know(pid_t pid) {
  if (process_.pid == pid || pid <= 0) return {};
  BERTH_ASSIGN(process_.pidfd, os::open_pidfd(pid), "restored process");
  process_.pid = pid;
  return request_.container.on_process ? request_.container.on_process(process_) : Result<>();
}

/// A network namespace of the container's own is empty: as at creation its loopback is up before anybody uses it.
Result<> Restore::namespaces_are_there(pid_t pid) {
  const auto* const network = spec_.linux->find_namespace(spec::NamespaceType::kNetwork);
  if (network != nullptr && network->path.empty()) {
    const std::string path = "/proc/" + std::to_string(pid) + "/ns/net";
    BERTH_ASSIGN(const UniqueFd theirs, os::open_namespace(path, CLONE_NEWNET), "network");
    BERTH_TRY(os::run_in_netns(theirs.get(), os::set_loopback_up), "network");
  }
  if (joined_) BERTH_TRY(joined_(pid), "restore");
  if (!spec_.hooks) return {};
  const std::string state =
      hook_state(request_.container.id, request_.container.bundle, spec_, spec::Status::kCreating, pid);
  BERTH_TRY(run_hooks(spec_.hooks->prestart, "prestart", state), "hooks");
  return run_hooks(spec_.hooks->create_runtime, "createRuntime", state);
}

/// All are there and held by criu, which was born among them and must not stop with them.
Result<> Restore::freeze() {
  const os::CgroupLayout& layout = *cgroup_.layout();
  BERTH_ASSIGN(const auto own, os::own_cgroups(layout), "cgroup of our own");
  const std::string path = own.front().substr(1) + (own.front() == "/" ? "" : "/") + "cgroup.procs";
  BERTH_TRY(os::write_existing_at(layout.hierarchies.front().root.get(), path, std::to_string(criu_pid_)),
            "move criu out of the cgroup");
  return cgroup_.freeze(true);
}

/// What keeps the processes from more than they may: not every criu brings all of it back, and one that was let go
/// without it cannot be told from others any more.
Result<> Restore::check_restraints() const {
  const bool sealed = spec_.process && spec_.process->no_new_privileges;
  const bool filtered = spec_.linux->seccomp.has_value();
  if (!sealed && !filtered) return {};
  BERTH_ASSIGN(const auto pids, cgroup_.pids(), "restored processes");
  for (const pid_t pid : pids) {
    BERTH_ASSIGN(const std::string status, os::read_file("/proc/" + std::to_string(pid) + "/status", kSmallFile),
                 "restored process");
    if (sealed && !status.contains("\nNoNewPrivs:\t1\n")) {
      return fail(Code::kUnsupported, "this criu does not restore no_new_privs, which the container is to have");
    }
    if (filtered && !status.contains("\nSeccomp:\t2\n")) {
      return fail(Code::kUnsupported, "criu has not restored the seccomp filter, which the container is to have");
    }
  }
  return {};
}

Result<> Restore::on_notice(CriuNotice& notice) {
  BERTH_TRY(know(notice.pid), "restore");
  if (notice.script == "setup-namespaces") return namespaces_are_there(notice.pid);
  if (notice.script == "pre-resume" && request_.frozen) return freeze();
  if (notice.script == "orphan-pts-master" && !process_.console.valid()) process_.console = std::move(notice.fd);
  return {};
}

Result<Process> Restore::run() {
  BERTH_ASSIGN(program_, find_criu(request_.options.criu.program), "restore");
  if (!os::exists(request_.options.criu.image_path)) {
    return fail(Code::kNotFound, "no checkpoint in " + request_.options.criu.image_path);
  }
  set_common(request_.options.criu, spec_, settings_);
  BERTH_ASSIGN(const CriuFolders folders, open_criu_folders(request_.options.criu, "restore.log", settings_),
               "restore");
  settings_.root = request_.root_folder;
  settings_.evasive_devices = true;
  settings_.rst_sibling = true;
  settings_.lsm_profile = request_.options.lsm_profile;
  settings_.lsm_mount_context = request_.options.lsm_mount_context;
  BERTH_TRY(set_streams(), "restore");
  BERTH_TRY(set_namespaces(), "restore");
  BERTH_TRY(set_mounts(), "restore");
  BERTH_ASSIGN(entry_, cgroup_.entry(""), "cgroup");
  BERTH_TRY(os::make_dirs(request_.root_folder, kPrivateMode), "restore");
  CriuRun run;
  run.request.type = CriuRequestType::kRestore;
  run.request.settings = settings_;
  run.log_path = folders.log_path;
  run.start = [this](int socket_fd) { return start(socket_fd); };
  run.complete = [this](pid_t pid, CriuSettings& settings) { return complete(pid, settings); };
  run.on_notice = [this](CriuNotice& notice) { return on_notice(notice); };
  auto response = run_criu(std::move(run));
  auto known = response ? know(response->restored_pid) : Result<>();
  if (response && known && request_.frozen) known = check_restraints();
  if (response && known) return std::move(process_);
  if (process_.pidfd.valid()) {
    ignore(os::pidfd_signal(process_.pidfd.get(), SIGKILL), "criu has ended it");
    ignore(os::reap_pidfd(process_.pidfd.get()), "nothing more can be done");
  }
  return fail(response ? known.error() : std::move(response).error().in("restore"));
}

}  // namespace

void add_time_namespace(spec::Spec& spec, pid_t pid) {
  if (spec.linux->find_namespace(spec::NamespaceType::kTime) != nullptr) return;
  struct stat own{};
  struct stat theirs{};
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/time";
  if (::stat("/proc/self/ns/time", &own) != 0 || ::stat(path.c_str(), &theirs) != 0) return;
  if (own.st_ino == theirs.st_ino) return;
  spec::Namespace time;
  time.type = spec::NamespaceType::kTime;
  spec.linux->namespaces.push_back(std::move(time));
}

Result<Process> restore_checkpoint(const RestoreRequest& request, const Cgroup& cgroup,
                                   const std::function<Result<>(pid_t)>& joined) {
  return Restore(request, cgroup, joined).run();
}

}  // namespace berth::engine::process
