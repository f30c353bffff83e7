#include <algorithm>
#include <array>

#include "base/strings.h"
#include "cri/spec_builder.h"
#include "spec/own_options.h"

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
  std::vector<std::string> pts = {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"};
  constexpr std::uint32_t kTtyGroup = 5;
  if (!input.facts.ids || input.facts.ids->gids.size > kTtyGroup) pts.push_back("gid=" + std::to_string(kTtyGroup));
  mounts.push_back(make("/dev/pts", "devpts", "devpts", std::move(pts)));
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

constexpr std::size_t kMaxSubPath = 4096;

// Options of mount(8) that change the mount alone and take nothing from anyone else.
constexpr std::array<std::string_view, 14> kMountOptions = {
    "noexec",     "nosuid",   "nodev",      "exec",        "suid",        "dev",   "noatime",
    "nodiratime", "relatime", "norelatime", "strictatime", "nosymfollow", "atime", "diratime"};

/// What a path in an image must be: nothing that leads up, whatever the image has there.
bool is_sub_path(std::string_view path) {
  if (path.starts_with('/') || path.size() > kMaxSubPath || path.find('\0') != std::string_view::npos) return false;
  return std::ranges::none_of(split(path, '/'), [](std::string_view part) { return part == ".."; });
}

Result<> check_options(const pb::Mount& mount, const std::string& name) {
  for (const auto& option : mount.mount_options()) {
    if (std::ranges::find(kMountOptions, option) == kMountOptions.end()) {
      return fail(Code::kInvalid, name + ": mount option \"" + option + "\" is not among those for one mount");
    }
  }
  return {};
}

Result<> check_image_volume(const pb::Mount& mount, const std::string& name) {
  if (!mount.host_path().empty()) return fail(Code::kInvalid, name + ": host_path and image exclude each other");
  if (mount.propagation() != pb::PROPAGATION_PRIVATE) {
    return fail(Code::kInvalid, name + ": an image is mounted with private propagation");
  }
  if (!is_sub_path(mount.image_sub_path())) {
    return fail(Code::kInvalid, name + ": image_sub_path \"" + mount.image_sub_path() + "\" leaves the image");
  }
  for (const auto& option : mount.mount_options()) {
    if (option == "exec" || option == "suid" || option == "dev") {
      return fail(Code::kInvalid, name + ": an image cannot be mounted with \"" + option + "\"");
    }
  }
  return check_options(mount, name);
}

Result<> check_request(const pb::Mount& mount, bool privileged, bool own_users) {
  const std::string name = "mount " + mount.container_path();
  if (mount.container_path().empty()) return fail(Code::kInvalid, "mounts: empty container_path");
  for (const auto& path : {mount.container_path(), mount.host_path()}) {
    if (path.find('\0') != std::string::npos) return fail(Code::kInvalid, name + ": a path holds a NUL");
  }
  if (is_image_volume(mount)) return check_image_volume(mount, name);
  if (!mount.image_sub_path().empty()) return fail(Code::kInvalid, name + ": image_sub_path without an image");
  if (!mount.host_path().starts_with('/')) return fail(Code::kInvalid, name + ": host_path is not absolute");
  if (!pb::MountPropagation_IsValid(mount.propagation())) return fail(Code::kInvalid, name + ": unknown propagation");
  if (mount.recursive_read_only() && (!mount.readonly() || mount.propagation() != pb::PROPAGATION_PRIVATE)) {
    return fail(Code::kInvalid, name + ": recursive_read_only wants readonly and private propagation");
  }
  // As the API server has it: what such a container mounts is the host's, and stays when it goes.
  if (mount.propagation() == pb::PROPAGATION_BIDIRECTIONAL && !privileged) {
    return fail(Code::kInvalid, name + ": propagation BIDIRECTIONAL is for privileged containers alone");
  }
  // Its root is nobody on the host, and must not mount there.
  if (mount.propagation() == pb::PROPAGATION_BIDIRECTIONAL && own_users) {
    return fail(Code::kInvalid, name + ": propagation BIDIRECTIONAL from a pod with a user namespace");
  }
  return check_options(mount, name);
}

/// One range as an option of the root mount (docs/shim.md).
std::string range_option(const char* name, const spec::IdMapping& range) {
  return std::string(name) + "=" + std::to_string(range.container_id) + ":" + std::to_string(range.host_id) + ":" +
         std::to_string(range.size);
}

/// Whom the files of an image belong to: what the request says, else the pod.
Result<> add_image_ids(const pb::Mount& asked, const std::optional<PodIds>& pod, spec::Mount& mount) {
  const std::string name = "mount " + asked.container_path();
  BERTH_ASSIGN(auto ids, mount_ids(asked), name);
  if (ids.uids.empty() && pod) ids = {{pod->uids}, {pod->gids}};
  if (ids.uids.empty()) return {};
  if (ids.uids.size() > 1 || ids.gids.size() > 1) {
    return fail(Code::kUnsupported, name + ": an image with more than one range of ids");
  }
  mount.options.push_back(range_option("uidmap", ids.uids.front()));
  mount.options.push_back(range_option("gidmap", ids.gids.front()));
  return {};
}

/// `volume`: the image's layers, as store.h gives them.
spec::Mount image_mount(const pb::Mount& asked, const image::RootfsMount& volume) {
  auto mount = make(clean_path(asked.container_path()), volume.type, volume.source,
                    {"rbind", "rprivate", "ro", "noexec", "nosuid", "nodev", "X-berth.image"});
  mount.options.insert(mount.options.end(), volume.options.begin(), volume.options.end());
  if (!asked.image_sub_path().empty()) mount.options.push_back("X-berth.sub-path=" + asked.image_sub_path());
  mount.options.insert(mount.options.end(), asked.mount_options().begin(), asked.mount_options().end());
  return mount;
}

Result<spec::Mount> request_mount(const SpecInput& input, int index) {
  const auto& asked = input.container.mounts(index);
  const bool privileged = input.container.linux().security_context().privileged();
  BERTH_TRY(check_request(asked, privileged, input.facts.ids.has_value()), "mounts");
  if (is_image_volume(asked)) {
    const auto volume = input.image_volumes.find(index);
    if (volume == input.image_volumes.end()) return fail(Code::kInternal, "mounts: an image that was not looked up");
    auto mount = image_mount(asked, volume->second);
    BERTH_TRY(add_image_ids(asked, input.facts.ids, mount), "mounts");
    return mount;
  }
  const bool both_ways = asked.propagation() == pb::PROPAGATION_BIDIRECTIONAL;
  const bool inwards = asked.propagation() == pb::PROPAGATION_HOST_TO_CONTAINER;
  const char* propagation = both_ways ? "rshared" : inwards ? "rslave" : "rprivate";
  const char* mode = asked.recursive_read_only() ? "rro" : asked.readonly() ? "ro" : "rw";
  auto mount = make(clean_path(asked.container_path()), "bind", asked.host_path(), {"rbind", propagation, mode});
  BERTH_ASSIGN(auto ids, mount_ids(asked), "mount " + asked.container_path());
  // With what is mounted below the volume, as the bind is: half a tree of one's own would be a riddle.
  if (!ids.uids.empty()) mount.options.emplace_back("ridmap");
  mount.uid_mappings = std::move(ids.uids);
  mount.gid_mappings = std::move(ids.gids);
  spec::mark_host_source(mount, input.host.shared_mounts);
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
  for (int i = 0; i < input.container.mounts_size(); ++i) {
    BERTH_ASSIGN(auto built, request_mount(input, i), "request");
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

}  // namespace berth::cri
