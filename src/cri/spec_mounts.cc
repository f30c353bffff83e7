#include <algorithm>
#include <array>

#include "base/strings.h"
#include "cri/spec_builder.h"

namespace berth::cri {

namespace {

spec::Mount make(std::string destination, std::string type, std::string source, std::vector<std::string> options) {
  spec::Mount mount;
  mount.destination = std::move(destination);
  mount.type = std::move(type);
  mount.source = std::move(source);
  mount.options = std::move(options);
  return mount;
}

bool node_ipc(const SpecInput& input) {
  return input.container.linux().security_context().namespace_options().ipc() == pb::NODE;
}

std::vector<spec::Mount> standard_mounts(const SpecInput& input) {
  const bool privileged = input.container.linux().security_context().privileged();
  const char* sys_mode = privileged ? "rw" : "ro";
  std::vector<spec::Mount> mounts;
  mounts.push_back(make("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}));
  mounts.push_back(make("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}));
  mounts.push_back(
      make("/dev/pts", "devpts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}));
  mounts.push_back(make("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}));
  mounts.push_back(make("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", sys_mode}));
  mounts.push_back(make("/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", sys_mode}));
  const std::string shm = node_ipc(input) ? "/dev/shm" : input.facts.pod_dir + "/shm";
  mounts.push_back(make("/dev/shm", "bind", shm, {"rbind", "rprivate", "rw", "nosuid", "noexec", "nodev"}));
  return mounts;
}

std::vector<spec::Mount> pod_file_mounts(const SpecInput& input) {
  // With a read-only root these are read-only too, as containerd has it.
  const bool readonly = input.container.linux().security_context().readonly_rootfs();
  std::vector<spec::Mount> mounts;
  for (const char* name : {"hosts", "hostname", "resolv.conf"}) {
    mounts.push_back(make(std::string("/etc/") + name, "bind", input.facts.pod_dir + "/" + name,
                          {"rbind", "rprivate", readonly ? "ro" : "rw"}));
  }
  return mounts;
}

// Options of mount(8) that change the mount alone and take nothing from anyone else.
constexpr std::array<std::string_view, 14> kMountOptions = {
    "noexec",     "nosuid",   "nodev",      "exec",        "suid",        "dev",   "noatime",
    "nodiratime", "relatime", "norelatime", "strictatime", "nosymfollow", "atime", "diratime"};

Result<> check_request(const pb::Mount& mount) {
  const std::string name = "mount " + mount.container_path();
  if (mount.container_path().empty()) return fail(Code::kInvalid, "mounts: empty container_path");
  for (const auto& path : {mount.container_path(), mount.host_path()}) {
    if (path.find('\0') != std::string::npos) return fail(Code::kInvalid, name + ": a path holds a NUL");
  }
  if (mount.has_image() && !mount.image().image().empty()) {
    return fail(Code::kUnsupported, name + ": image volumes are not built yet");
  }
  if (!mount.host_path().starts_with('/')) return fail(Code::kInvalid, name + ": host_path is not absolute");
  if (mount.uidmappings_size() > 0 || mount.gidmappings_size() > 0) {
    return fail(Code::kUnsupported, name + ": id-mapped mounts are not built yet");
  }
  if (mount.propagation() == pb::PROPAGATION_BIDIRECTIONAL) {
    return fail(Code::kUnsupported,
                name + ": bidirectional propagation is not offered: a pod's mounts never reach the host");
  }
  if (mount.recursive_read_only() && (!mount.readonly() || mount.propagation() != pb::PROPAGATION_PRIVATE)) {
    return fail(Code::kInvalid, name + ": recursive_read_only wants readonly and private propagation");
  }
  for (const auto& option : mount.mount_options()) {
    if (std::ranges::find(kMountOptions, option) == kMountOptions.end()) {
      return fail(Code::kInvalid, name + ": mount option \"" + option + "\" is not among those for one mount");
    }
  }
  return {};
}

Result<spec::Mount> request_mount(const pb::Mount& asked) {
  BERTH_TRY(check_request(asked), "mounts");
  const char* propagation = asked.propagation() == pb::PROPAGATION_HOST_TO_CONTAINER ? "rslave" : "rprivate";
  const char* mode = asked.recursive_read_only() ? "rro" : asked.readonly() ? "ro" : "rw";
  auto mount = make(clean_path(asked.container_path()), "bind", asked.host_path(), {"rbind", propagation, mode});
  mount.options.insert(mount.options.end(), asked.mount_options().begin(), asked.mount_options().end());
  return mount;
}

std::ptrdiff_t depth(const std::string& path) {
  return std::ranges::count(path, '/');
}

/// A mount of the request takes the place of a standard one at the same path.
void drop_covered(std::vector<spec::Mount>& mounts, const std::vector<spec::Mount>& asked) {
  std::erase_if(mounts, [&asked](const spec::Mount& mount) {
    return std::ranges::any_of(asked, [&](const spec::Mount& other) { return other.destination == mount.destination; });
  });
}

}  // namespace

Result<std::vector<spec::Mount>> build_mounts(const SpecInput& input) {
  std::vector<spec::Mount> asked;
  for (const auto& mount : input.container.mounts()) {
    BERTH_ASSIGN(auto built, request_mount(mount), "request");
    if (built.destination == "/") return fail(Code::kInvalid, "mounts: nothing can be mounted on /");
    // Outer ones first, else in the order of the request.
    const auto place = std::ranges::upper_bound(asked, depth(built.destination), {},
                                                [](const spec::Mount& other) { return depth(other.destination); });
    asked.insert(place, std::move(built));
  }
  auto mounts = standard_mounts(input);
  auto files = pod_file_mounts(input);
  mounts.insert(mounts.end(), files.begin(), files.end());
  drop_covered(mounts, asked);
  mounts.insert(mounts.end(), asked.begin(), asked.end());
  return mounts;
}

std::string clean_path(std::string_view path) {
  std::vector<std::string> parts;
  for (const auto part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.emplace_back(part);
    } else if (!parts.empty()) {
      parts.pop_back();
    }
  }
  return std::string("/").append(join(parts, "/"));
}

}  // namespace berth::cri
