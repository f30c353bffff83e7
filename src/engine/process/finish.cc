#include "engine/process/finish.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <csignal>

#include "base/strings.h"
#include "engine/process/scheduling.h"
#include "os/caps.h"
#include "os/clone.h"
#include "os/file.h"
#include "os/process_attr.h"
#include "os/root_path.h"
#include "os/seccomp_cache.h"
#include "os/seccomp_handover.h"

namespace berth::engine::process {

namespace {

constexpr mode_t kDefaultUmask = 0022;
constexpr std::uint64_t kSysAdmin = 1ULL << CAP_SYS_ADMIN;
constexpr std::size_t kPasswdLimit = 1U << 20;

constexpr std::uint64_t kAllCaps = ~0ULL;

/// The mask of capability names. A name that this program or kernel does not know is left out with a warning, as runc
/// does: newer callers list newer capabilities.
std::uint64_t cap_mask(const std::vector<std::string>& names, std::uint64_t known, const char* set,
                       const std::function<void(const std::string&)>& warn) {
  std::uint64_t mask = 0;
  std::string missing;
  for (const auto& name : names) {
    const auto number = os::cap_number(name);
    const std::uint64_t bit = number ? 1ULL << static_cast<unsigned>(*number) : 0;
    if ((bit & known) == 0) missing.append(missing.empty() ? "" : " ").append(name);
    mask |= bit & known;
  }
  if (!missing.empty() && warn)
    warn("capabilities not available here are left out of the " + std::string(set) + " set: " + missing);
  return mask;
}

bool is_null_device(int fd) {
  struct stat st{};
  return ::fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

/// The home folder of `uid` by the container's /etc/passwd; "/" when it does not say.
std::string home_of(std::uint32_t uid) {
  // The image's: a pipe or device there must neither be waited for nor read.
  const auto file = os::open_file("/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY);
  struct stat st{};
  if (!file || ::fstat(file->get(), &st) != 0 || !S_ISREG(st.st_mode)) return "/";
  const auto passwd = os::read_all(file->get(), kPasswdLimit);
  if (!passwd) return "/";
  for (const auto line : split(*passwd, '\n')) {
    const auto fields = split(line, ':');
    constexpr std::size_t kUid = 2;
    constexpr std::size_t kHome = 5;
    if (fields.size() > kHome && parse_number<std::uint32_t>(fields[kUid]) == uid && !fields[kHome].empty()) {
      return std::string(fields[kHome]);
    }
  }
  return "/";
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  for (const auto& text : strings) out.push_back(const_cast<char*>(text.c_str()));
  out.push_back(nullptr);
  return out;
}

}  // namespace

bool selinux_active() {
  return os::exists("/sys/fs/selinux/enforce");
}

Result<> set_oom_score(const spec::Process& process, int proc_fd, const std::string& process_dir,
                       const std::function<void(const std::string&)>& warn) {
  if (!process.oom_score_adj) return {};
  const auto done = os::write_proc(proc_fd, process_dir + "/oom_score_adj", std::to_string(*process.oom_score_adj));
  if (done) return {};
  const int e = done.error().errno_value();
  if (e != EACCES && e != EPERM) return fail(done.error().in("process.oomScoreAdj"));
  // Lowering needs CAP_SYS_RESOURCE, which a nested or restricted host does not have: a hint is no reason to fail.
  warn("oom_score_adj " + std::to_string(*process.oom_score_adj) + " is refused here and stays as it is");
  return {};
}

Result<> Finish::with_host_proc(int proc_fd) {
  const auto& process = *setup_.process;
  if (!setup_.in_user_namespace) BERTH_TRY(set_oom_score(process, proc_fd, "self", setup_.warn), "process");
  if (!process.apparmor_profile.empty() && process.apparmor_profile != "unconfined") {
    // The subfolder exists only where AppArmor is active, so that no other module's attribute is written by mistake.
    const auto done = os::write_proc(proc_fd, "self/attr/apparmor/exec", "exec " + process.apparmor_profile);
    if (!done)
      return fail(
          done.error().in("process.apparmorProfile \"" + process.apparmor_profile + "\"").as(Code::kUnsupported));
  }
  if (!process.selinux_label.empty()) {
    if (!selinux_active()) {
      return fail(Code::kUnsupported, "process.selinuxLabel is set, but SELinux is not active on this host");
    }
    BERTH_TRY(os::write_proc(proc_fd, "self/attr/exec", process.selinux_label), "process.selinuxLabel");
  }
  return {};
}

Result<> Finish::set_stdio() {
  std::array<int, 3> from{setup_.stdio.in, setup_.stdio.out, setup_.stdio.err};
  UniqueFd null;
  if (setup_.terminal >= 0) {
    from.fill(setup_.terminal);
  } else if (std::ranges::any_of(from, [](int fd) { return fd < 0 || is_null_device(fd); })) {
    // The container's own null device, so that none of the host's is left inside: neither its mount, of which a
    // checkpoint would know nothing, nor its owner and mode, which could be changed through it.
    auto own = os::open_file("/dev/null", O_RDWR | O_NOCTTY);
    const bool good = own && is_null_device(own->get());
    if (!good && std::ranges::any_of(from, [](int fd) { return fd < 0; })) {
      if (!own) return fail(std::move(own).error().in("standard streams"));
      return fail(Code::kInvalid, "the container's /dev/null is no null device");
    }
    if (good) {
      null = std::move(*own);
      std::ranges::replace_if(from, [](int fd) { return fd < 0 || is_null_device(fd); }, null.get());
    }
  }
  // A source may be one of 0 to 2 itself: move those away before they are overwritten.
  std::array<UniqueFd, 3> moved;
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (from[i] > 2 || from[i] == static_cast<int>(i)) continue;
    const int fd = ::fcntl(from[i], F_DUPFD_CLOEXEC, 3);
    if (fd < 0) return fail_errno(errno, "duplicate a standard stream");
    moved[i].reset(fd);
    from[i] = fd;
  }
  for (std::size_t i = 0; i < from.size(); ++i) {
    const int target = static_cast<int>(i);
    if (from[i] == target) {
      if (::fcntl(target, F_SETFD, 0) != 0) return fail_errno(errno, "standard stream");
    } else if (::dup2(from[i], target) < 0) {
      return fail_errno(errno, "standard stream");
    }
  }
  const std::uint32_t uid = setup_.process->user.uid;
  for (int fd = 0; uid != 0 && fd < 3; ++fd) {
    // So that /dev/stdout can be opened by the user. Refused for read-only and unmapped ones, which is no harm.
    struct stat st{};
    if (::fstat(fd, &st) == 0 && st.st_uid != uid && !is_null_device(fd)) {
      [[maybe_unused]] const int refused = ::fchown(fd, uid, static_cast<gid_t>(-1));
    }
  }
  return {};
}

/// Afterwards exactly these are open: stdio, the passed ones, and what must stay until exec. Everything else is closed
/// now and not only by exec, so that no path (a working folder /proc/self/fd/N) leads to one. Source: CVE-2024-21626.
Result<> Finish::place_extra_fds() {
  const auto& extra = *setup_.extra_fds;
  const int end = 3 + static_cast<int>(extra.size());
  const int keep_end = end + static_cast<int>(setup_.keep_fds.size());
  for (int* const fd : setup_.keep_fds) {
    if (*fd < 0 || *fd >= keep_end) continue;
    *fd = ::fcntl(*fd, F_DUPFD_CLOEXEC, keep_end);
    if (*fd < 0) return fail_errno(errno, "move a descriptor away");
  }
  std::vector<int> moved;
  for (const int fd : extra) {
    moved.push_back(::fcntl(fd, F_DUPFD_CLOEXEC, keep_end));
    if (moved.back() < 0) return fail_errno(errno, "pass descriptor " + std::to_string(fd));
  }
  for (std::size_t i = 0; i < moved.size(); ++i) {
    if (::dup2(moved[i], 3 + static_cast<int>(i)) < 0) return fail_errno(errno, "pass a descriptor");
  }
  for (std::size_t i = 0; i < setup_.keep_fds.size(); ++i) {
    int* const fd = setup_.keep_fds[i];
    const int place = end + static_cast<int>(i);
    if (*fd < 0) {
      ::close(place);  // whatever lay there
    } else if (::dup3(*fd, place, O_CLOEXEC) < 0) {
      return fail_errno(errno, "move a descriptor");
    } else {
      *fd = place;
    }
  }
  return os::close_from(static_cast<unsigned>(keep_end));
}

Result<> Finish::set_limits() {
  for (const auto& limit : setup_.process->rlimits) {
    const auto number = os::rlimit_number(limit.type);
    if (!number) return fail(Code::kInvalid, "process.rlimits: unknown limit \"" + limit.type + "\"");
    BERTH_ASSIGN(const bool whole, os::set_rlimit(*number, limit.soft, limit.hard), "process.rlimits " + limit.type);
    if (!whole) setup_.warn(limit.type + " cannot be raised here (no CAP_SYS_RESOURCE) and is set as high as allowed");
  }
  return {};
}

Result<> Finish::set_scheduling() {
  const auto& process = *setup_.process;
  if (process.scheduler) {
    BERTH_ASSIGN(const auto attributes, scheduler_attributes(*process.scheduler), "process.scheduler");
    BERTH_TRY(os::set_scheduler(attributes), "process.scheduler");
  }
  if (setup_.memory_policy != nullptr) {
    BERTH_ASSIGN(const auto policy, memory_policy(*setup_.memory_policy), "linux.memoryPolicy");
    BERTH_TRY(os::set_memory_policy(policy.mode, policy.nodes), "linux.memoryPolicy");
  }
  if (process.io_priority) {
    BERTH_ASSIGN(const int io_class, io_class_number(process.io_priority->io_class), "process.ioPriority");
    BERTH_TRY(os::set_io_priority(io_class, process.io_priority->priority), "process.ioPriority");
  }
  return {};
}

Result<> Finish::compile_filter() {
  if (setup_.seccomp == nullptr) return {};
  const auto& config = *setup_.seccomp;
  os::SeccompPolicy policy;
  policy.default_action = config.default_action;
  policy.default_errno_ret = config.default_errno_ret;
  policy.architectures = &config.architectures;
  policy.rules.reserve(config.syscalls.size());
  for (const auto& entry : config.syscalls) {
    os::SeccompRule rule{entry.action, entry.errno_ret, &entry.names, {}};
    for (const auto& arg : entry.args) rule.args.push_back({arg.index, arg.op, arg.value, arg.value_two});
    policy.rules.push_back(std::move(rule));
  }
  BERTH_ASSIGN(filter_flags_, os::seccomp_flags(config.flags), "linux.seccomp.flags");
  BERTH_ASSIGN(filter_, os::compile_seccomp_cached(policy, setup_.filter_cache), "linux.seccomp");
  has_filter_ = true;
  has_listener_ = os::needs_listener(policy);
  if (has_listener_ && config.listener_path.empty()) {
    return fail(Code::kInvalid, "linux.seccomp.listenerPath is not set, but SCMP_ACT_NOTIFY is used");
  }
  return {};
}

Result<> Finish::set_identity() {
  const auto& user = setup_.process->user;
  const auto groups = os::set_groups(user.additional_gids);
  // In a user namespace that denies setgroups (one made without privileges) only an empty list can be had.
  if (!groups && !(setup_.in_user_namespace && user.additional_gids.empty())) {
    return fail(groups.error().in("process.user.additionalGids"));
  }
  BERTH_TRY(os::keep_caps(true), "process.user");
  BERTH_TRY(os::set_ids(user.uid, user.gid), "process.user");
  ::umask(user.umask ? static_cast<mode_t>(*user.umask) : kDefaultUmask);
  return {};
}

Result<> Finish::set_capabilities() {
  BERTH_ASSIGN(const os::CapSets mine, os::get_caps(), "capabilities");
  static const spec::Capabilities kNone;
  const auto& wanted = setup_.process->capabilities ? *setup_.process->capabilities : kNone;
  const std::uint64_t bounding =
      os::bounding_caps(cap_mask(wanted.bounding, kAllCaps, "", {}) | cap_mask(wanted.inheritable, kAllCaps, "", {}));
  const std::uint64_t keep = cap_mask(wanted.bounding, bounding, "bounding", setup_.warn);
  wanted_permitted_ = cap_mask(wanted.permitted, mine.permitted, "permitted", setup_.warn);
  wanted_effective_ = cap_mask(wanted.effective, wanted_permitted_, "effective", {});
  wanted_inheritable_ = cap_mask(wanted.inheritable, bounding, "inheritable", {});
  const std::uint64_t ambient = cap_mask(wanted.ambient, wanted_permitted_ & wanted_inheritable_, "ambient", {});
  // setuid cleared the effective set; permitted lives by keep_caps. SETPCAP is needed to drop from the bounding set.
  BERTH_TRY(os::set_caps({mine.permitted, mine.permitted, mine.inheritable}), "capabilities");
  BERTH_TRY(os::limit_bounding_caps(keep), "capabilities");
  // A filter without no_new_privs needs CAP_SYS_ADMIN when it is loaded, which is the last thing: it stays until then.
  const bool late_admin = has_filter_ && !setup_.process->no_new_privileges;
  const std::uint64_t extra = late_admin ? mine.permitted & kSysAdmin : 0;
  limited_caps_ = (extra & ~wanted_permitted_) != 0 || (extra & ~wanted_effective_) != 0;
  BERTH_TRY(os::set_caps({wanted_effective_ | extra, wanted_permitted_ | extra, wanted_inheritable_}), "capabilities");
  return os::set_ambient_caps(ambient);
}

/// A first try with root's rights, since a user may not be able to walk there; a second as the user, who may be the
/// only one who can (NFS, FUSE). Then the kernel is asked where we are: a working folder that came from a leaked
/// descriptor lies outside the root and is refused. Source: CVE-2024-21626.
Result<> Finish::enter_cwd(bool final_try) {
  if (cwd_entered_ && !final_try) return {};
  const std::string& cwd = setup_.process->cwd;
  if (!cwd_entered_) {
    if (::chdir(cwd.c_str()) != 0) {
      const int e = errno;
      if (!final_try && e == EACCES) return {};
      return fail_errno(e, "chdir to cwd (\"" + cwd + "\") set in config.json failed");
    }
    cwd_entered_ = true;
  }
  std::array<char, PATH_MAX + 1> where{};
  const long n = ::syscall(SYS_getcwd, where.data(), where.size());
  if (n < 0) return fail_errno(errno, "process.cwd \"" + cwd + "\" is not inside the container's root");
  if (where[0] != '/') return fail(Code::kDenied, "process.cwd \"" + cwd + "\" is outside of the container's root");
  return {};
}

void Finish::make_environment() {
  const auto& process = *setup_.process;
  const bool has_home = std::ranges::any_of(process.env, [](const auto& e) { return e.starts_with("HOME="); });
  env_ = process.env;
  if (!has_home) env_.push_back("HOME=" + home_of(process.user.uid));
}

/// execvp's search with errors that tell the cases apart; runc's words, which callers look for.
Result<> Finish::find_program() {
  if (setup_.process->args.empty()) return fail(Code::kInvalid, "process.args must not be empty");
  const std::string& name = setup_.process->args[0];
  const auto failure = [&name](int e, const std::string& text) {
    Error error = errno_error(e, "exec: \"" + name + "\"" + text);
    return e == ENOENT ? fail(std::move(error).as(Code::kNotFound)) : fail(std::move(error));
  };
  const auto usable = [](const std::string& path) {
    struct stat st{};
    if (::stat(path.c_str(), &st) != 0) return errno;
    if (S_ISDIR(st.st_mode)) return EISDIR;
    return ::faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0 ? 0 : errno;
  };
  if (name.find('/') != std::string::npos) {
    const int e = usable(name);
    if (e == ENOENT) return failure(e, ": stat " + name);
    if (e != 0) return failure(e == EISDIR ? EACCES : e, "");
    program_ = name;
    return {};
  }
  std::string_view path = "/bin:/usr/bin";
  for (const auto& entry : env_) {
    if (entry.starts_with("PATH=")) path = std::string_view(entry).substr(5);
  }
  int worst = ENOENT;
  for (const auto dir : split(path, ':')) {
    std::string candidate = dir.empty() ? name : std::string(dir) + "/" + name;
    const int e = name.empty() ? ENOENT : usable(candidate);
    if (e == 0) {
      program_ = std::move(candidate);
      return {};
    }
    if (e == EACCES) worst = EACCES;
  }
  if (worst == EACCES) return failure(EACCES, "");
  return fail(Code::kNotFound, "exec: \"" + name + "\": executable file not found in $PATH", ENOENT);
}

Result<> Finish::before_wait() {
  BERTH_TRY(compile_filter(), "seccomp");
  BERTH_TRY(set_stdio(), "standard streams");
  BERTH_TRY(place_extra_fds(), "descriptors");
  if (setup_.terminal >= 0) {
    BERTH_TRY(os::take_terminal(0), "terminal");
  } else {
    ::setsid();  // fails only for a session leader, which is as good
  }
  BERTH_TRY(set_limits(), "limits");
  BERTH_TRY(set_scheduling(), "scheduling");
  BERTH_TRY(enter_cwd(false), "cwd");
  BERTH_TRY(set_identity(), "identity");
  BERTH_TRY(set_capabilities(), "identity");
  BERTH_TRY(enter_cwd(true), "cwd");
  if (setup_.process->no_new_privileges) BERTH_TRY(os::set_no_new_privs(), "process.noNewPrivileges");
  // After the identity: the kernel forgets it when credentials change.
  if (setup_.die_with_parent) BERTH_TRY(os::set_parent_death_signal(SIGKILL), "parent-death signal");
  make_environment();
  return find_program();
}

/// Under the new filter no call may be made, since any may be refused, or wait for the very supervisor that has no
/// listener yet. So the parent takes the listener out of this process, told by memory.
Result<> Finish::load_with_listener() {
  BERTH_ASSIGN(auto page, os::SeccompHandover::create(), "listener");
  BERTH_TRY(setup_.announce_listener(page.fd()), "listener");
  BERTH_ASSIGN(const int listener, os::load_seccomp_listener(filter_, filter_flags_), "linux.seccomp");
  page.offer_and_wait(listener);
  page.forget();
  return {};
}

Result<> Finish::load_filter() {
  return has_listener_ ? load_with_listener() : os::load_seccomp(filter_, filter_flags_);
}

std::unexpected<Error> Finish::exec() {
  const auto argv = pointers(setup_.process->args);
  const auto envp = pointers(env_);
  os::reset_signals();
  if (has_filter_) {
    if (auto loaded = load_filter(); !loaded) return fail(std::move(loaded).error());
    if (limited_caps_) {
      auto limited = os::set_caps({wanted_effective_, wanted_permitted_, wanted_inheritable_});
      if (!limited) return fail(std::move(limited).error().in("capabilities after seccomp"));
    }
  }
  return os::exec_program(program_.c_str(), argv.data(), envp.data());
}

}  // namespace berth::engine::process
