#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "engine/process/launch.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/root_path.h"

namespace berth::engine::process {

namespace {

/// The devices that must be there. Source: runtime-spec config-linux.md "Default Devices".
constexpr std::array<std::pair<const char*, std::pair<unsigned, unsigned>>, 6> kDefaults{{
    {"/dev/null", {1, 3}},
    {"/dev/zero", {1, 5}},
    {"/dev/full", {1, 7}},
    {"/dev/random", {1, 8}},
    {"/dev/urandom", {1, 9}},
    {"/dev/tty", {5, 0}},
}};

Result<> make_link(int dev_fd, const char* target, const char* name) {
  if (::symlinkat(target, dev_fd, name) != 0 && errno != EEXIST) {
    return fail_errno(errno, std::string("link /dev/") + name);
  }
  return {};
}

Result<> make_node(int parent_fd, const std::string& name, const DeviceNode& node, bool& refused) {
  refused = false;
  if (::mknodat(parent_fd, name.c_str(), node.type | node.mode, makedev(node.major, node.minor)) != 0) {
    const int e = errno;
    if (e == EEXIST) return {};
    if (e == EPERM) {
      refused = true;
      return {};
    }
    return fail_errno(e, "mknod " + node.path);
  }
  if (node.uid != 0 || node.gid != 0) {
    if (::fchownat(parent_fd, name.c_str(), node.uid, node.gid, AT_SYMLINK_NOFOLLOW) != 0) {
      return fail_errno(errno, "chown " + node.path);
    }
  }
  return {};
}

/// Where mknod is refused (a user namespace), the host's node is shown.
Result<> bind_node(const Launch& launch, int root_fd, const DeviceNode& node, std::size_t index) {
  UniqueFd own;
  int tree = index < launch.device_trees.size() ? launch.device_trees[index].get() : -1;
  if (tree < 0) {
    BERTH_ASSIGN(own, os::clone_tree(AT_FDCWD, node.path, false), "host device");
    tree = own.get();
  }
  BERTH_ASSIGN(const UniqueFd target, os::make_file_in_root(root_fd, node.path), "device");
  return os::attach_tree(tree, target.get());
}

}  // namespace

Result<std::vector<DeviceNode>> plan_devices(const spec::Spec& spec) {
  std::vector<DeviceNode> nodes;
  nodes.reserve(kDefaults.size());
  for (const auto& [path, number] : kDefaults)
    nodes.push_back({path, S_IFCHR, 0666, number.first, number.second, 0, 0});
  if (!spec.linux) return nodes;
  for (const auto& device : spec.linux->devices) {
    DeviceNode node;
    node.path = device.path;
    if (device.type == "c" || device.type == "u") {
      node.type = S_IFCHR;
    } else if (device.type == "b") {
      node.type = S_IFBLK;
    } else if (device.type == "p") {
      node.type = S_IFIFO;
    } else {
      return fail(Code::kInvalid, "linux.devices " + device.path + ": type \"" + device.type + "\"");
    }
    constexpr std::int64_t kMaxNumber = 0xffffffff;
    if (device.major < 0 || device.minor < 0 || device.major > kMaxNumber || device.minor > kMaxNumber) {
      if (node.type != S_IFIFO) return fail(Code::kInvalid, "linux.devices " + device.path + ": number");
    }
    node.major = static_cast<unsigned>(std::max<std::int64_t>(device.major, 0));
    node.minor = static_cast<unsigned>(std::max<std::int64_t>(device.minor, 0));
    constexpr std::uint32_t kModeBits = 0777;
    if (device.file_mode) node.mode = *device.file_mode & kModeBits;
    node.uid = device.uid.value_or(0);
    node.gid = device.gid.value_or(0);
    const auto same = std::ranges::find(nodes, node.path, &DeviceNode::path);
    if (same == nodes.end()) {
      nodes.push_back(std::move(node));
    } else {
      *same = std::move(node);
    }
  }
  return nodes;
}

Result<> make_devices(const Launch& launch, int root_fd) {
  BERTH_ASSIGN(const UniqueFd dev, os::make_dir_in_root(root_fd, "/dev"), "/dev");
  BERTH_ASSIGN(const auto nodes, plan_devices(*launch.spec), "devices");
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const auto& node = nodes[i];
    if (node.path == "/dev/ptmx") continue;  // its place is taken below
    std::string parent;
    std::string name;
    os::split_parent(node.path, parent, name);
    UniqueFd own;
    int parent_fd = dev.get();
    if (parent != "/dev") {
      BERTH_ASSIGN(own, os::make_dir_in_root(root_fd, parent), node.path);
      parent_fd = own.get();
    }
    bool refused = launch.in_user_namespace();
    if (!refused) BERTH_TRY(make_node(parent_fd, name, node, refused), "device");
    if (refused) BERTH_TRY(bind_node(launch, root_fd, node, i), "device " + node.path);
  }
  BERTH_TRY(make_link(dev.get(), "/proc/self/fd", "fd"), "devices");
  BERTH_TRY(make_link(dev.get(), "/proc/self/fd/0", "stdin"), "devices");
  BERTH_TRY(make_link(dev.get(), "/proc/self/fd/1", "stdout"), "devices");
  BERTH_TRY(make_link(dev.get(), "/proc/self/fd/2", "stderr"), "devices");
  // ptmx must be the container's own, whatever the image has there.
  if (::unlinkat(dev.get(), "ptmx", 0) != 0 && errno != ENOENT) return fail_errno(errno, "replace /dev/ptmx");
  return make_link(dev.get(), "pts/ptmx", "ptmx");
}

}  // namespace berth::engine::process
