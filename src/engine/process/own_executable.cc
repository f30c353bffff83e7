#include <fcntl.h>
#include <linux/mount.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/strings.h"
#include "engine/process/launch.h"
#include "engine/process/process_engine.h"
#include "os/clone.h"
#include "os/early_guard.h"
#include "os/file.h"
#include "os/mount.h"

namespace berth::engine::process {

namespace {

constexpr const char* kOwnExe = "/proc/self/exe";
constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

bool is_protected() {
  struct statvfs fs{};
  if (::statvfs(kOwnExe, &fs) == 0 && (fs.f_flag & ST_RDONLY) != 0) return true;
  const UniqueFd exe(::open(kOwnExe, O_RDONLY | O_CLOEXEC));
  return exe.valid() && ::fcntl(exe.get(), F_GET_SEALS) == kSeals;
}

/// FALLBACK until kernel 5.12 (mount_setattr), and for those who may not clone mounts.
Result<UniqueFd> sealed_copy() {
  BERTH_ASSIGN(const UniqueFd exe, os::open_file(kOwnExe, O_RDONLY), "own executable");
  struct stat st{};
  if (::fstat(exe.get(), &st) != 0) return fail_errno(errno, "stat the own executable");
  UniqueFd copy(::memfd_create("berth-oci", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!copy.valid()) return fail_errno(errno, "memfd_create");
  for (off_t left = st.st_size; left > 0;) {
    const ssize_t n = ::sendfile(copy.get(), exe.get(), nullptr, static_cast<std::size_t>(left));
    if (n <= 0) return fail_errno(n == 0 ? EIO : errno, "copy the own executable");
    left -= n;
  }
  if (::fcntl(copy.get(), F_ADD_SEALS, kSeals) != 0) return fail_errno(errno, "seal the own executable");
  return copy;
}

Result<UniqueFd> read_only_view() {
  BERTH_ASSIGN(UniqueFd tree, os::clone_tree(AT_FDCWD, kOwnExe, false), "own executable");
  BERTH_TRY(os::change_mount(tree.get(), {MOUNT_ATTR_RDONLY, 0, 0, -1}, false), "own executable");
  return tree;
}

// The descriptor that we were executed by, if src/os/early_guard.cc did it: the kernel calls such a program /dev/fd/N.
UniqueFd inherited_view() {
  constexpr std::string_view kPrefix = "/dev/fd/";
  const auto* const name = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));  // NOLINT(performance-no-int-to-ptr)
  if (name == nullptr || !std::string_view(name).starts_with(kPrefix)) return {};
  const auto number = parse_number<int>(std::string_view(name).substr(kPrefix.size()));
  if (!number || *number < 3) return {};
  // Whoever else executes us by a descriptor keeps it or closes it as is his way.
  const int flags = ::fcntl(*number, F_GETFL);
  if (flags < 0 || (flags & O_PATH) == 0 || (::fcntl(*number, F_GETFD) & FD_CLOEXEC) != 0) return {};
  struct stat own{};
  struct stat given{};
  if (::stat(kOwnExe, &own) != 0 || ::fstat(*number, &given) != 0) return {};
  if (own.st_dev != given.st_dev || own.st_ino != given.st_ino) return {};
  // No descriptor that a caller handed over for a container has this flag, so it is never taken for one.
  ::fcntl(*number, F_SETFD, FD_CLOEXEC);
  return UniqueFd(*number);
}

// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): there is one executable
UniqueFd kept_view;

}  // namespace

void park_own_view() {
  if (!kept_view.valid()) return;
  constexpr const char* kPlace = "/proc/cmdline";
  ignore(os::attach_tree_at(kept_view.get(), kPlace), "without a place for it the kernel's grace period is waited for");
  kept_view.reset();
}

Result<> protect_own_executable(char** argv, char** envp) {
  if (const int view = os::early_guard_view(); view >= 0) {
    kept_view.reset(view);
    return {};
  }
  if (is_protected()) {
    kept_view = inherited_view();
    return {};
  }
  auto view = read_only_view();
  if (view) {
    // Only where executing a mount's file from no namespace fails does it come back.
    ignore(Result<>(os::exec_fd(view->get(), argv, envp)), "the sealed copy is tried next");
  }
  BERTH_ASSIGN(const UniqueFd copy, sealed_copy(), "protect the own executable");
  return os::exec_fd(copy.get(), argv, envp);
}

}  // namespace berth::engine::process
