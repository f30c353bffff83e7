#include <seccomp.h>

#include "commands.h"

namespace berth::oci {

namespace {

struct FlagHelp {
  std::string_view name;
  std::string_view text;
};
// By name, whatever the command: a flag means the same everywhere.
constexpr FlagHelp kFlagHelp[] = {
    {"root", "folder that holds the containers' states (default /run/berth-oci, or below XDG_RUNTIME_DIR)"},
    {"log", "file for errors and warnings (default stderr)"},
    {"log-format", "text or json"},
    {"debug", "say more"},
    {"systemd-cgroup", "have systemd make the cgroups; linux.cgroupsPath is then slice:prefix:name"},
    {"rootless",
     "true, false or auto: whether no cgroup is made where there is no right to. With spec: a configuration for a user "
     "without privileges"},
    {"criu", "program that checkpoint and restore work by (default: criu, looked for in PATH)"},
    {"version", "print the version"},
    {"help", "print this"},
    {"bundle", "folder with config.json (default: the working folder)"},
    {"console-socket", "unix socket that gets the terminal's master side"},
    {"pid-file", "file that gets the process id"},
    {"no-pivot", "chroot instead of pivot_root, for roots on a ramdisk"},
    {"no-new-keyring", "keep the caller's session keyring"},
    {"preserve-fds", "number of descriptors after stdio (and LISTEN_FDS) to pass on"},
    {"detach", "do not wait for the program"},
    {"keep", "leave the container when it has ended"},
    {"no-subreaper", "accepted; never needed here"},
    {"cwd", "working folder in the container"},
    {"env", "NAME=value, may be repeated"},
    {"tty", "give the program a terminal"},
    {"user", "uid[:gid]"},
    {"additional-gids", "supplementary group, may be repeated"},
    {"process", "file with the process as JSON"},
    {"process-label", "SELinux label"},
    {"apparmor", "AppArmor profile"},
    {"no-new-privs", "set no_new_privs"},
    {"cap", "capability to add, may be repeated"},
    {"cgroup", "sub-cgroup of the container's to run in, made when missing"},
    {"ignore-paused", "also when the container is paused"},
    {"all", "every process of the container, not init alone"},
    {"force", "kill it first when it runs; no error when there is none"},
    {"format", "table or json"},
    {"quiet", "ids only"},
    {"resources", "file with resources as JSON, \"-\" for stdin; the other flags are ignored then"},
    {"blkio-weight", "10 to 1000"},
    {"cpu-period", "microseconds"},
    {"cpu-quota", "microseconds per period; -1 for no limit"},
    {"cpu-burst", "microseconds"},
    {"cpu-share", "relative weight"},
    {"cpu-rt-period", "microseconds"},
    {"cpu-rt-runtime", "microseconds"},
    {"cpu-idle", "0 or 1"},
    {"cpuset-cpus", "list like 0-3,7"},
    {"cpuset-mems", "list of memory nodes"},
    {"l3-cache-schema", "schema of the container's group in resctrl, like L3:0=7f0"},
    {"mem-bw-schema", "likewise, like MB:0=20"},
    {"memory", "limit in bytes; -1 for none"},
    {"memory-reservation", "soft limit in bytes"},
    {"memory-swap", "memory and swap together in bytes; -1 for no limit"},
    {"pids-limit", "number of tasks; -1 for no limit"},
    {"stats", "print the statistics once and end"},
    {"interval", "between two statistics, such as 500ms or 5s (the default)"},
    {"image-path", "folder of the checkpoint's files (default ./checkpoint)"},
    {"work-path", "folder of criu's log and sockets (default: that of the files)"},
    {"parent-path", "an earlier pre-dump, relative to --image-path"},
    {"leave-running", "let the container go on"},
    {"tcp-established", "with open TCP connections"},
    {"tcp-skip-in-flight", "without TCP connections that are being made"},
    {"link-remap", "give deleted files that are open a name again"},
    {"ext-unix-sk", "with unix sockets whose other end is outside"},
    {"shell-job", "with a terminal or session of the caller's"},
    {"lazy-pages", "memory follows when it is used, by userfaultfd"},
    {"status-fd", "descriptor that gets a NUL when --lazy-pages is ready"},
    {"page-server", "ADDRESS:PORT that memory is sent to or asked from"},
    {"file-locks", "with file locks"},
    {"pre-dump", "memory alone; the container goes on, and the next checkpoint needs write only what changed"},
    {"manage-cgroups-mode", "soft, full, strict or ignore: what criu does about cgroups"},
    {"empty-ns", "\"network\", which is always made empty: accepted"},
    {"auto-dedup", "drop from older files what newer ones have"},
    {"lsm-profile", "TYPE:NAME of the profile to restore under"},
    {"lsm-mount-context", "SELinux context of restored mounts"},
    {"kernel-memory", "accepted and unused: kernels have no such limit any more"},
};

std::string flags_text(std::span<const FlagSpec> flags) {
  std::string text;
  for (const auto& flag : flags) {
    std::string line = "   --" + std::string(flag.name);
    if (flag.letter != 0) line.append(", -").push_back(flag.letter);
    if (flag.takes_value) line.append(" value");
    constexpr std::size_t kColumn = 32;
    line.resize(line.size() < kColumn ? kColumn : line.size() + 1, ' ');
    for (const auto& help : kFlagHelp) {
      if (help.name == flag.name) line.append(help.text);
    }
    text.append(line).append("\n");
  }
  return text;
}

}  // namespace

std::string help_text() {
  std::string text =
      "NAME:\n   berth-oci - OCI container runtime of Berth, with runc's command line\n\n"
      "USAGE:\n   berth-oci [global options] command [command options] [arguments...]\n\nCOMMANDS:\n";
  for (const auto& command : commands()) {
    std::string line = "   " + std::string(command.name);
    constexpr std::size_t kColumn = 15;
    line.resize(kColumn, ' ');
    text.append(line).append(command.summary).append("\n");
  }
  return text + "\nGLOBAL OPTIONS:\n" + flags_text(global_flags());
}

std::string help_text(const Command& command) {
  std::string text = "NAME:\n   berth-oci " + std::string(command.name) + " - " + std::string(command.summary);
  text +=
      "\n\nUSAGE:\n   berth-oci " + std::string(command.name) + " [command options] " + std::string(command.operands);
  return text + "\n\nOPTIONS:\n" + flags_text(command.flags);
}

std::string version_text() {
  const scmp_version* const seccomp = ::seccomp_version();
  std::string text = "berth-oci version " BERTH_VERSION "\nspec: 1.3.0\nlibseccomp: ";
  text += std::to_string(seccomp->major) + "." + std::to_string(seccomp->minor) + "." + std::to_string(seccomp->micro);
  return text + "\n";
}

}  // namespace berth::oci
