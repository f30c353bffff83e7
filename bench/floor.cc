// The least that the kernel can be asked to do for the container of `runc spec`: the same namespaces, cgroups, mounts,
// devices, masks, capabilities and exec as a runtime makes, with nothing read, looked up, checked or stored. What a
// runtime takes beyond this is its own. Usage: bench_floor host|new ROOTFS CGROUP-FOLDER... -- PROGRAM: `new` gives it
// a network namespace; each cgroup v1 folder is made, joined and removed. Exits as the program does. --protect: it
// first executes itself again from a read-only mount of its own file, as a runtime must for the host's sake
// (CVE-2019-5736).
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "os/caps.h"
#include "os/clone.h"
#include "os/mount.h"
#include "os/namespace.h"
#include "os/process_attr.h"

namespace berth::bench {
namespace {

void check(const Result<>& done) {
  if (done) return;
  std::fprintf(stderr, "bench_floor: %s\n", done.error().text().c_str());
  ::_exit(125);
}
UniqueFd check(Result<UniqueFd> fd) {
  if (!fd) check(Result<>(fail(std::move(fd).error())));
  return std::move(*fd);
}
void check_call(int result, const char* what) {
  if (result < 0) check(Result<>(fail_errno(errno, what)));
}

struct Options {
  bool own_network = false;
  std::string rootfs;
  std::vector<std::string> cgroups;
  char* const* program = nullptr;
};

void write_file(const std::string& path, std::string_view text) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  check_call(fd.valid() ? 0 : -1, path.c_str());
  check_call(static_cast<int>(::write(fd.get(), text.data(), text.size())), path.c_str());
}

void copy_file(const std::string& from, const std::string& to) {
  std::array<char, 256> text{};
  const UniqueFd fd(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
  const ssize_t n = ::read(fd.get(), text.data(), text.size());
  check_call(static_cast<int>(n), from.c_str());
  write_file(to, {text.data(), static_cast<std::size_t>(n)});
}

/// Source: runtime-spec config-linux.md "Default Devices" and what every runtime allows beside them.
constexpr std::array kDeviceRules{"c *:* m",   "b *:* m",   "c 1:3 rwm", "c 1:8 rwm", "c 1:7 rwm",
                                  "c 5:0 rwm", "c 1:5 rwm", "c 1:9 rwm", "c 5:2 rwm", "c 136:* rwm"};

void make_cgroups(const Options& options) {
  for (const auto& folder : options.cgroups) {
    check_call(::mkdir(folder.c_str(), 0755), folder.c_str());
    if (folder.find("/cpuset/") != std::string::npos) {
      copy_file(folder + "/../cpuset.cpus", folder + "/cpuset.cpus");
      copy_file(folder + "/../cpuset.mems", folder + "/cpuset.mems");
    }
    if (folder.find("/devices/") != std::string::npos) {
      write_file(folder + "/devices.deny", "a");
      for (const char* rule : kDeviceRules) write_file(folder + "/devices.allow", rule);
    }
  }
}

struct FsOption {
  const char* key;
  const char* value;
};

UniqueFd new_fs(const char* type, std::span<const FsOption> options, std::uint64_t attributes) {
  const UniqueFd context = check(os::fs_open(type));
  for (const auto& option : options) check(os::fs_set(context.get(), option.key, option.value));
  return check(os::fs_mount(context.get(), attributes));
}

/// Attaches below the root; `make` first makes the folder, as in a new tmpfs.
void attach(int tree_fd, int root_fd, const char* target, bool make) {
  if (make) check_call(::mkdirat(root_fd, target, 0755), target);
  const UniqueFd at(::openat(root_fd, target, O_PATH | O_CLOEXEC));
  check_call(at.valid() ? 0 : -1, target);
  check(os::attach_tree(tree_fd, at.get()));
}

constexpr std::uint64_t kQuiet = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;

void mount_cgroups(const Options& options, int root_fd) {
  const UniqueFd top = new_fs("tmpfs", std::array{FsOption{"mode", "755"}}, kQuiet | MOUNT_ATTR_NODEV);
  attach(top.get(), root_fd, "sys/fs/cgroup", false);
  for (const auto& folder : options.cgroups) {
    const UniqueFd tree = check(os::clone_tree(AT_FDCWD, folder, false));
    const std::string hierarchy = folder.substr(0, folder.rfind('/'));
    const std::string name = hierarchy.substr(hierarchy.rfind('/') + 1);
    attach(tree.get(), top.get(), name.c_str(), true);
  }
  check(os::change_mount(top.get(), {MOUNT_ATTR_RDONLY | kQuiet | MOUNT_ATTR_NODEV, 0, 0, -1}, true));
}

void make_mounts(const Options& options, int root_fd) {
  attach(new_fs("proc", {}, 0).get(), root_fd, "proc", false);
  const UniqueFd dev = new_fs("tmpfs", std::array{FsOption{"mode", "755"}, FsOption{"size", "65536k"}},
                              MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
  attach(dev.get(), root_fd, "dev", false);
  attach(new_fs("devpts",
                std::array{FsOption{"newinstance", nullptr}, FsOption{"ptmxmode", "0666"}, FsOption{"mode", "0620"},
                           FsOption{"gid", "5"}},
                kQuiet)
             .get(),
         dev.get(), "pts", true);
  attach(new_fs("tmpfs", std::array{FsOption{"mode", "1777"}, FsOption{"size", "65536k"}}, kQuiet | MOUNT_ATTR_NODEV)
             .get(),
         dev.get(), "shm", true);
  attach(new_fs("mqueue", {}, kQuiet | MOUNT_ATTR_NODEV).get(), dev.get(), "mqueue", true);
  attach(new_fs("sysfs", {}, kQuiet | MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY).get(), root_fd, "sys", false);
  mount_cgroups(options, root_fd);
  const std::array<std::pair<const char*, dev_t>, 6> nodes{{{"null", makedev(1, 3)},
                                                            {"zero", makedev(1, 5)},
                                                            {"full", makedev(1, 7)},
                                                            {"random", makedev(1, 8)},
                                                            {"urandom", makedev(1, 9)},
                                                            {"tty", makedev(5, 0)}}};
  for (const auto& [name, number] : nodes) check_call(::mknodat(dev.get(), name, S_IFCHR | 0666, number), name);
  constexpr std::array<std::pair<const char*, const char*>, 5> kLinks{{{"fd", "/proc/self/fd"},
                                                                       {"stdin", "/proc/self/fd/0"},
                                                                       {"stdout", "/proc/self/fd/1"},
                                                                       {"stderr", "/proc/self/fd/2"},
                                                                       {"ptmx", "pts/ptmx"}}};
  for (const auto& [name, target] : kLinks) check_call(::symlinkat(target, dev.get(), name), name);
}

void hide_paths(int root_fd) {
  for (const char* path : {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"}) {
    const UniqueFd at(::openat(root_fd, path, O_PATH | O_CLOEXEC));
    if (!at.valid()) continue;
    const UniqueFd tree = check(os::clone_tree(at.get(), "", true));
    check(os::change_mount(tree.get(), {MOUNT_ATTR_RDONLY, 0, 0, -1}, true));
    check(os::attach_tree(tree.get(), at.get()));
  }
  // The first copy of each cover is attached itself: a mount that nothing shows costs a grace period of the kernel's
  // when it goes.
  UniqueFd empty;
  UniqueFd null;
  for (const char* path : {"proc/acpi", "proc/asound", "proc/kcore", "proc/keys", "proc/latency_stats",
                           "proc/timer_list", "proc/timer_stats", "proc/sched_debug", "sys/firmware", "proc/scsi"}) {
    const UniqueFd at(::openat(root_fd, path, O_PATH | O_CLOEXEC));
    struct stat st{};
    if (!at.valid() || ::fstat(at.get(), &st) != 0) continue;
    UniqueFd& cover = S_ISDIR(st.st_mode) ? empty : null;
    if (cover.valid()) {
      check(os::attach_tree(check(os::clone_tree(cover.get(), "", false)).get(), at.get()));
      continue;
    }
    cover = S_ISDIR(st.st_mode) ? new_fs("tmpfs", {}, kQuiet | MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY)
                                : check(os::clone_tree(root_fd, "dev/null", false));
    check(os::attach_tree(cover.get(), at.get()));
  }
}

void set_identity() {
  // CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE.
  constexpr std::uint64_t kCaps = (1ULL << 5U) | (1ULL << 10U) | (1ULL << 29U);
  const rlimit files{1024, 1024};
  check_call(::setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
  check(os::limit_bounding_caps(kCaps));
  check(os::set_groups({}));
  check(os::set_ids(0, 0));
  check(os::set_caps({kCaps, kCaps, 0}));
  check(os::set_no_new_privs());
}

[[noreturn]] void run_child(const Options& options) {
  for (const auto& folder : options.cgroups) write_file(folder + "/tasks", "0");
  check(os::set_hostname("runc"));
  if (options.own_network) check(os::set_loopback_up());
  check(os::join_session_keyring("_ses.floor"));
  check(os::change_mount_at("/", {0, 0, MS_SLAVE, -1}, true));
  const UniqueFd root = check(os::clone_tree(AT_FDCWD, options.rootfs, true));
  check(os::attach_tree_at(root.get(), "/"));
  make_mounts(options, root.get());
  hide_paths(root.get());
  check(os::change_mount(root.get(), {MOUNT_ATTR_RDONLY, 0, 0, -1}, false));
  check(os::pivot_into(root.get()));
  ::setsid();
  set_identity();
  char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  char* const environment[] = {path, nullptr};
  ::execve(options.program[0], options.program, environment);
  check_call(-1, options.program[0]);
  ::_exit(125);
}

int run(const Options& options) {
  make_cgroups(options);
  os::CloneOptions clone;
  clone.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS;
  if (options.own_network) clone.flags |= CLONE_NEWNET;
  auto child = os::clone_process(clone);
  if (!child) {
    std::fprintf(stderr, "bench_floor: %s\n", child.error().text().c_str());
    return 125;
  }
  if (child->pid == 0) run_child(options);
  const auto code = os::reap_pidfd(child->pidfd.get());
  for (const auto& folder : options.cgroups) check_call(::rmdir(folder.c_str()), folder.c_str());
  return code.value_or(125);
}

void protect(char** argv) {
  struct statvfs fs{};
  if (::statvfs("/proc/self/exe", &fs) == 0 && (fs.f_flag & ST_RDONLY) != 0) return;
  const UniqueFd view = check(os::clone_tree(AT_FDCWD, "/proc/self/exe", false));
  check(os::change_mount(view.get(), {MOUNT_ATTR_RDONLY, 0, 0, -1}, false));
  check(Result<>(os::exec_fd(view.get(), argv, environ)));
}

}  // namespace
}  // namespace berth::bench

int main(int argc, char** argv) {
  berth::bench::Options options;
  const int first = argc > 1 && std::string_view(argv[1]) == "--protect" ? 2 : 1;
  int at = first + 2;
  for (; at < argc && std::string_view(argv[at]) != "--"; ++at) options.cgroups.emplace_back(argv[at]);
  if (at + 1 >= argc) {
    std::fputs("usage: bench_floor [--protect] host|new ROOTFS CGROUP-FOLDER... -- PROGRAM\n", stderr);
    return 2;
  }
  if (first == 2) berth::bench::protect(argv);
  options.own_network = std::string_view(argv[first]) == "new";
  options.rootfs = argv[first + 1];
  options.program = argv + at + 1;
  return berth::bench::run(options);
}
