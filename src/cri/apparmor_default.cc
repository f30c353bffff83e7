#include "cri/apparmor_default.h"

#include <unistd.h>

#include "base/log.h"
#include "base/strings.h"
#include "os/file.h"
#include "os/spawn.h"

namespace berth::cri {

namespace {

constexpr std::chrono::milliseconds kParserTimeout{30'000};
constexpr std::size_t kMaxProfiles = 8U << 20;
constexpr const char* kProfiles = "/sys/kernel/security/apparmor/profiles";

/// apparmor.d(5) has no "all but X": each step of the way to X is one pattern of what is not on it.
///
/// What stays writable of /proc is the folders of processes and the shared memory of the container's IPC namespace
/// (/proc/sys/kernel/shm*); of /sys the cgroups.
constexpr std::string_view kRules = R"(
  # What the kernel gives a container by capabilities, namespaces and its own mounts is not decided here again.
  capability,
  file,
  network,
  unix,

  # Nothing is mounted in there, and no root is changed; to let go of a mount is harmless.
  umount,
  deny mount,
  deny pivot_root,

  # Processes of this profile are each other's business and nobody else's, but who started them must be able to end them.
  signal (send, receive) peer=@NAME@,
  signal (receive) peer=unconfined,
  signal (receive) peer={runc,crun},
  ptrace (trace, read, tracedby, readby) peer=@NAME@,

  # Files of the kernel's that are the whole machine's: right in /proc, in folders that are no process's, and the sysctls.
  deny /proc/* w,
  deny /proc/[^1-9s]*/** w,
  deny /proc/s[^ey]*/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/k[^e]** w,
  deny /proc/sys/kernel/[^s]** w,
  deny /proc/sys/kernel/s[^h]** w,
  deny /proc/sys/kernel/sh[^m]** w,
  # Those that no container has a reason to look at either.
  deny /proc/kcore rwklx,
  deny /proc/kmem rwklx,
  deny /proc/mem rwklx,
  deny /proc/sysrq-trigger rwklx,

  # The same for sysfs: what is left is /sys/fs/cgroup.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
)";

std::optional<std::string> find_parser() {
  for (const char* path : {"/usr/sbin/apparmor_parser", "/sbin/apparmor_parser", "/usr/bin/apparmor_parser"}) {
    if (::access(path, X_OK) == 0) return path;
  }
  return std::nullopt;
}

}  // namespace

std::string default_apparmor_profile() {
  const std::string name(kDefaultAppArmorProfile);
  std::string text =
      "profile " + name + " flags=(attach_disconnected, mediate_deleted) {" + std::string(kRules) + "}\n";
  constexpr std::string_view kWord = "@NAME@";
  for (auto at = text.find(kWord); at != std::string::npos; at = text.find(kWord)) {
    text.replace(at, kWord.size(), name);
  }
  return text;
}

namespace {

Result<> run_parser() {
  const auto parser = find_parser();
  if (!parser) return fail(Code::kUnavailable, "the program apparmor_parser is not installed");
  os::RunOptions run;
  run.spawn.argv = {*parser, "--skip-cache", "--replace"};
  run.spawn.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  run.input = default_apparmor_profile();
  run.timeout = kParserTimeout;
  BERTH_ASSIGN(const auto output, os::run(std::move(run)), *parser);
  if (output.exit_code == 0) return {};
  return fail(Code::kInternal, *parser + ": " + std::string(trim(output.err)));
}

}  // namespace

Result<> load_default_apparmor_profile() {
  auto done = run_parser();
  if (done) return {};
  // An earlier start, or whoever installed this machine, may have brought it.
  const auto loaded = os::read_file(kProfiles, kMaxProfiles);
  if (!loaded || !has_apparmor_profile(*loaded, kDefaultAppArmorProfile)) return done;
  log_warn("the AppArmor profile of containers stays as it was loaded before",
           {{"profile", kDefaultAppArmorProfile}, {"err", done.error().text()}});
  return {};
}

bool has_apparmor_profile(std::string_view loaded, std::string_view name) {
  for (const auto line : split(loaded, '\n')) {
    // With (complain) it would forbid nothing.
    if (line.starts_with(name) && line.substr(name.size()).starts_with(" (enforce)")) return true;
  }
  return false;
}

}  // namespace berth::cri
