#include <fcntl.h>
#include <unistd.h>

#include "commands.h"
#include "os/file.h"
#include "output.h"

namespace berth::oci {

namespace {

spec::Mount mount(const char* destination, const char* type, const char* source, std::vector<std::string> options) {
  spec::Mount entry;
  entry.destination = destination;
  entry.type = type;
  entry.source = source;
  entry.options = std::move(options);
  return entry;
}

std::vector<spec::Mount> example_mounts() {
  return {
      mount("/proc", "proc", "proc", {}),
      mount("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
      mount("/dev/pts", "devpts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}),
      mount("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}),
      mount("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}),
      mount("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}),
      mount("/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}),
  };
}

spec::Process example_process() {
  spec::Process process;
  process.terminal = true;
  process.args = {"sh"};
  process.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"};
  process.cwd = "/";
  const std::vector<std::string> caps{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  process.capabilities = spec::Capabilities{
      .bounding = caps, .effective = caps, .inheritable = {}, .permitted = caps, .ambient = {}, .extra = {}};
  process.rlimits.push_back({.type = "RLIMIT_NOFILE", .hard = 1024, .soft = 1024, .extra = {}});
  process.no_new_privileges = true;
  return process;
}

void make_rootless(spec::Spec& spec) {
  auto& config = *spec.linux;
  std::erase_if(config.namespaces, [](const auto& entry) { return entry.type == spec::NamespaceType::kNetwork; });
  config.namespaces.push_back({.type = spec::NamespaceType::kUser, .path = "", .extra = {}});
  config.uid_mappings = {{.container_id = 0, .host_id = ::geteuid(), .size = 1, .extra = {}}};
  config.gid_mappings = {{.container_id = 0, .host_id = ::getegid(), .size = 1, .extra = {}}};
  config.resources.reset();
  std::erase_if(spec.mounts, [](const auto& entry) { return entry.destination == "/sys/fs/cgroup"; });
  for (auto& entry : spec.mounts) {
    // The group that owns terminals is not mapped, and sysfs needs a network namespace of its own.
    if (entry.type == "devpts") std::erase(entry.options, "gid=5");
    if (entry.type == "sysfs") {
      entry.type = "none";
      entry.source = "/sys";
      entry.options = {"rbind", "nosuid", "noexec", "nodev", "ro"};
    }
  }
}

spec::Spec example_spec(bool rootless) {
  spec::Spec spec;
  spec.oci_version = "1.3.0";
  spec.process = example_process();
  spec.root = spec::Root{.path = "rootfs", .readonly = true, .extra = {}};
  spec.hostname = "berth";
  spec.mounts = example_mounts();
  spec::Linux config;
  config.resources.emplace();
  config.resources->devices.push_back(
      {.allow = false, .type = "", .major = std::nullopt, .minor = std::nullopt, .access = "rwm", .extra = {}});
  for (const auto type : {spec::NamespaceType::kPid, spec::NamespaceType::kNetwork, spec::NamespaceType::kIpc,
                          spec::NamespaceType::kUts, spec::NamespaceType::kMount, spec::NamespaceType::kCgroup}) {
    config.namespaces.push_back({.type = type, .path = "", .extra = {}});
  }
  config.masked_paths = {"/proc/acpi",          "/proc/asound",     "/proc/kcore",       "/proc/keys",
                         "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                         "/sys/firmware",       "/proc/scsi"};
  config.readonly_paths = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  spec.linux = std::move(config);
  if (rootless) make_rootless(spec);
  return spec;
}

}  // namespace

Result<int> run_spec(Context& context) {
  const std::string path = context.args.value_or("bundle", ".") + "/config.json";
  auto file = os::open_file(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
  if (!file) {
    if (file.error().code() == Code::kExists) return fail(Code::kExists, "File config.json exists. Remove it first");
    return fail(std::move(file).error());
  }
  const std::string text = pretty_json(spec::write_spec(example_spec(context.args.on("rootless"))), "\t") + "\n";
  BERTH_TRY(os::write_all(file->get(), text), "spec");
  return 0;
}

}  // namespace berth::oci
