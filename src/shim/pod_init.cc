#include "shim/pod_init.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <string_view>

#include "os/caps.h"
#include "os/channel.h"
#include "os/clone.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/namespace.h"
#include "os/pidfd.h"
#include "os/process_attr.h"
#include "os/socket.h"

// pod_init_image.cc
extern const char kPodInitBegin[] asm("berth_pod_init_begin");
extern const char kPodInitEnd[] asm("berth_pod_init_end");

namespace berth::shim {
namespace {

constexpr std::size_t kMaxErrorBytes = 4096;
constexpr std::chrono::seconds kLongestEnd{2};
constexpr std::chrono::milliseconds kLook{10};
constexpr unsigned kNobody = 65535;  // what a pause container's image usually runs as
// FALLBACK until kernel 6.3: before, every file in memory could be executed, and nobody said so.
constexpr unsigned kExecutable = 0x0010U;  // MFD_EXEC
constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

/// The program as a file that nobody can change, whatever the pod's containers make of /proc/1/exe (CVE-2019-5736).
Result<UniqueFd> program_file() {
  UniqueFd file(::memfd_create("berth-pod-init", MFD_CLOEXEC | MFD_ALLOW_SEALING | kExecutable));
  if (!file.valid() && errno == EINVAL) {
    file = UniqueFd(::memfd_create("berth-pod-init", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  }
  if (!file.valid()) return fail_errno(errno, "memfd_create");
  const auto size = static_cast<std::size_t>(kPodInitEnd - kPodInitBegin);
  BERTH_TRY(os::write_all(file.get(), std::string_view(kPodInitBegin, size)), "program");
  if (::fcntl(file.get(), F_ADD_SEALS, kSeals) != 0) return fail_errno(errno, "seal the program");
  return file;
}

/// Nothing of the host can be reached through /proc/1/root of the pod: what runs here sees an empty folder.
Result<> enter_empty_root() {
  BERTH_ASSIGN(const UniqueFd context, os::fs_open("tmpfs"), "empty root");
  BERTH_TRY(os::fs_set(context.get(), "size", "4096"), "empty root");
  BERTH_TRY(os::fs_set(context.get(), "nr_inodes", "2"), "empty root");
  BERTH_TRY(os::fs_set(context.get(), "mode", "555"), "empty root");
  BERTH_ASSIGN(
      const UniqueFd tree,
      os::fs_mount(context.get(), MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC),
      "empty root");
  BERTH_TRY(os::attach_tree_at(tree.get(), "/"), "empty root");
  return os::pivot_into(tree.get());
}

/// True when whoever made this process is gone: the other end of `report` is.
bool is_orphan(int report) {
  pollfd end{report, 0, 0};
  return ::poll(&end, 1, 0) > 0 && (end.revents & POLLERR) != 0;
}

/// In the child; returns only what went wrong.
Result<> become_init(int program, int report, bool in_user_namespace) {
  os::reset_signals();
  // Whoever is nobody there can own no file system.
  if (in_user_namespace) BERTH_TRY(os::set_ids(0, 0), "user");
  BERTH_TRY(enter_empty_root(), "root");
  BERTH_TRY(os::limit_bounding_caps(0), "capabilities");
  BERTH_TRY(os::set_groups({}), "groups");
  if (!os::set_ids(kNobody, kNobody)) {
    // Not in a small user namespace: then the pod's own root, without capabilities as well.
    BERTH_TRY(os::set_ids(0, 0), "user");
    BERTH_TRY(os::set_caps({}), "user");
  }
  // After the change of user, which makes the kernel forget it.
  BERTH_TRY(os::set_parent_death_signal(SIGKILL), "parent-death signal");
  if (is_orphan(report)) ::_exit(1);
  // All others close at exec.
  for (int fd = 0; fd < 3; ++fd) ::close(fd);
  std::array<char, 15> name{"berth-pod-init"};
  const std::array<char*, 2> argv{name.data(), nullptr};
  const std::array<char*, 1> envp{nullptr};
  return os::exec_fd(program, argv.data(), envp.data());
}

}  // namespace

/// Who clones in a user namespace must live in it, which this process must not: so a helper does, whose child the
/// kernel makes ours. As clone_process().
Result<os::Cloned> clone_in_user_namespace(int user_namespace, os::CloneOptions options, os::Pipe& report) {
  BERTH_ASSIGN(auto pair, os::unix_socketpair(), "helper");
  BERTH_ASSIGN(const os::Cloned helper, os::clone_process({}), "helper");
  if (helper.pid == 0) {
    pair.first.reset();
    report.read.reset();
    os::ChannelMessage message;
    options.flags |= CLONE_PARENT;
    const auto entered = os::join_namespaces(user_namespace, CLONE_NEWUSER);
    auto made = entered ? os::clone_process(options) : Result<os::Cloned>(fail(entered.error()));
    if (made && made->pid == 0) {
      os::Cloned child;
      child.pid = 0;
      return child;
    }
    message.code = made ? made->pid : -1;
    if (made) message.fd = std::move(made->pidfd);
    if (!made) message.text = made.error().text();
    const auto sent = os::send_message(pair.second.get(), message);
    if (!sent && made) ignore(os::pidfd_signal(message.fd.get(), SIGKILL), "nobody would hold it");
    ::_exit(0);
  }
  pair.second.reset();
  auto message = os::receive_message(pair.first.get());
  ignore(os::reap_pidfd(helper.pidfd.get()), "a child of ours");
  if (!message) return fail(std::move(message).error().in("helper"));
  if (!message->fd.valid()) {
    // A child of ours that is not reaped, so the number is its own.
    if (message->code > 0) ::kill(message->code, SIGKILL);
    return fail(Code::kInternal, "helper: " + message->text);
  }
  os::Cloned cloned;
  cloned.pid = message->code;
  cloned.pidfd = std::move(message->fd);
  return cloned;
}

Result<PodInit> PodInit::start(int user_namespace) {
  BERTH_ASSIGN(const UniqueFd program, program_file(), "pod init");
  BERTH_ASSIGN(os::Pipe report, os::make_pipe(), "pod init");
  os::CloneOptions options;
  options.flags = CLONE_NEWPID | CLONE_NEWNS;
  BERTH_ASSIGN(
      os::Cloned cloned,
      user_namespace < 0 ? os::clone_process(options) : clone_in_user_namespace(user_namespace, options, report),
      "pod init");
  if (cloned.pid == 0) {
    report.read.reset();
    const auto failed = become_init(program.get(), report.write.get(), user_namespace >= 0);
    if (!failed) ignore(os::write_all(report.write.get(), failed.error().text()), "the end of the pipe says as much");
    ::_exit(1);
  }
  report.write.reset();
  PodInit made;
  made.pid_ = cloned.pid;
  made.pidfd_ = std::move(cloned.pidfd);
  BERTH_ASSIGN(const std::string error, os::read_all(report.read.get(), kMaxErrorBytes), "pod init");
  if (!error.empty()) return fail(Code::kInternal, "pod init: " + error);
  const std::string path = "/proc/" + std::to_string(made.pid_) + "/ns/pid";
  BERTH_ASSIGN(made.namespace_, os::open_namespace(path, CLONE_NEWPID), "pod init");
  return made;
}

PodInit::~PodInit() {
  if (!pidfd_.valid() || !end_.empty()) return;
  ignore(os::pidfd_signal(pidfd_.get(), SIGKILL), "it may have ended");
  // It ends only when nobody of its namespace is left, be it a zombie: those that are our children are for us to reap.
  const auto deadline = std::chrono::steady_clock::now() + kLongestEnd;
  while (std::chrono::steady_clock::now() < deadline) {
    siginfo_t info{};
    while (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == 0 && info.si_pid != 0) {
      if (info.si_pid == pid_) return;
    }
    ignore(os::wait_readable(pidfd_.get(), kLook), "it goes with us at the latest");
  }
}

bool PodInit::is_namespace(const std::string& path) const {
  const auto other = os::open_namespace(path, CLONE_NEWPID);
  return other && os::same_namespace(other->get(), namespace_.get());
}

bool PodInit::ending() const {
  if (!end_.empty()) return true;
  const auto now = os::process_times(pid_);
  return !now || now->exiting;
}

void PodInit::ended(int code) {
  end_ = "the pod's init (pid " + std::to_string(pid_) + ") ";
  end_ += code > 128 ? "was killed by signal " + std::to_string(code - 128) : "ended with code " + std::to_string(code);
}

}  // namespace berth::shim
