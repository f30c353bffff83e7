#include "cri/host_facts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <set>

#include "base/strings.h"
#include "os/caps.h"
#include "os/file.h"
#include "os/mountinfo.h"

namespace berth::cri {

namespace {

constexpr unsigned kMaxDeviceDepth = 8;
constexpr std::size_t kMaxDevices = 8192;

bool file_in(int root_fd, const std::string& path) {
  struct stat status{};
  return ::fstatat(root_fd, path.c_str(), &status, 0) == 0;
}

/// "./a//b" below a hierarchy's root for an absolute cgroup path.
std::string relative(const std::string& path) {
  const auto start = path.find_first_not_of('/');
  return start == std::string::npos ? "." : path.substr(start);
}

std::string below(const std::string& folder, const std::string& name) {
  std::string path = folder;
  path.append("/").append(name);
  return path;
}

std::optional<spec::Device> device_of(const struct stat& status, std::string path) {
  if (!S_ISCHR(status.st_mode) && !S_ISBLK(status.st_mode)) return std::nullopt;
  spec::Device device;
  device.path = std::move(path);
  device.type.assign(1, S_ISCHR(status.st_mode) ? 'c' : 'b');
  device.major = ::major(status.st_rdev);
  device.minor = ::minor(status.st_rdev);
  device.file_mode = status.st_mode & 07777U;
  device.uid = status.st_uid;
  device.gid = status.st_gid;
  return device;
}

Result<> walk_devices(const std::string& folder, const std::string& shown, const std::set<std::string>& skip,
                      unsigned depth, std::vector<spec::Device>& out) {
  if (depth > kMaxDeviceDepth) return {};
  BERTH_ASSIGN(const auto names, os::list_dir(folder), "list devices");
  for (const auto& name : names) {
    const std::string path = below(folder, name);
    const std::string shown_path = below(shown, name);
    struct stat status{};
    if (skip.contains(path) || ::lstat(path.c_str(), &status) != 0) continue;
    if (S_ISDIR(status.st_mode)) {
      BERTH_TRY(walk_devices(path, shown_path, skip, depth + 1, out), path);
    } else if (auto device = device_of(status, shown_path)) {
      if (out.size() >= kMaxDevices) return fail(Code::kExhausted, "more than 8192 devices below " + folder);
      out.push_back(std::move(*device));
    }
  }
  return {};
}

}  // namespace

Result<HostFacts> probe_host(const os::CgroupLayout& cgroups) {
  HostFacts facts;
  facts.cgroup_v2 = cgroups.v2;
  if (cgroups.v2 && !cgroups.hierarchies.empty()) {
    const auto controllers = os::read_file_at(cgroups.hierarchies.front().root.get(), "cgroup.controllers", 4096);
    for (const auto word : split(controllers ? trim(*controllers) : std::string_view(), ' ')) {
      if (word == "hugetlb") facts.hugetlb = true;
      if (word == "memory") facts.swap_accounting = os::exists("/proc/swaps");
    }
  } else {
    facts.hugetlb = cgroups.find("hugetlb") != nullptr;
    const auto* memory = cgroups.find("memory");
    facts.swap_accounting = memory != nullptr && file_in(memory->root.get(), "memory.memsw.limit_in_bytes");
  }
  const auto apparmor = os::read_file("/sys/module/apparmor/parameters/enabled", 16);
  facts.apparmor = apparmor && apparmor->starts_with("Y") && os::exists("/sys/kernel/security/apparmor");
  facts.selinux = os::exists("/sys/fs/selinux/enforce");
  if (const auto root = os::propagation_at("/")) facts.shared_mounts = root->shared;
  facts.bounding_caps = os::bounding_caps();
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return fail_errno(errno, "gethostname");
  facts.hostname = name.data();
  BERTH_ASSIGN(const auto boot, os::read_file("/proc/sys/kernel/random/boot_id", 64), "find out which boot this is");
  facts.boot_id = trim(boot);
  return facts;
}

Result<std::vector<spec::Device>> host_devices() {
  static const std::set<std::string> kSkip = {"/dev/pts",     "/dev/shm",  "/dev/fd",          "/dev/mqueue",
                                              "/dev/console", "/dev/.lxc", "/dev/.lxd-mounts", "/dev/.udev"};
  std::vector<spec::Device> devices;
  BERTH_TRY(walk_devices("/dev", "/dev", kSkip, 0, devices), "list the host's devices");
  return devices;
}

Result<std::vector<spec::Device>> devices_at(const std::string& host_path, const std::string& container_path) {
  struct stat status{};
  if (::stat(host_path.c_str(), &status) != 0) return fail_errno(errno, "device " + host_path);
  std::vector<spec::Device> devices;
  if (S_ISDIR(status.st_mode)) {
    BERTH_TRY(walk_devices(host_path, container_path, {}, 0, devices), "devices below " + host_path);
    if (devices.empty()) return fail(Code::kInvalid, "no devices below " + host_path);
    return devices;
  }
  auto device = device_of(status, container_path);
  if (!device) return fail(Code::kInvalid, host_path + " is not a device");
  devices.push_back(std::move(*device));
  return devices;
}

bool cgroup_exists(const os::CgroupLayout& cgroups, const std::string& path) {
  for (const auto& hierarchy : cgroups.hierarchies) {
    if (file_in(hierarchy.root.get(), relative(path))) return true;
  }
  return false;
}

Result<> remove_cgroups(const os::CgroupLayout& cgroups, const std::string& path) {
  if (relative(path) == ".") return {};
  std::optional<Error> first;
  for (const auto& hierarchy : cgroups.hierarchies) {
    auto removed = os::remove_cgroup(hierarchy.root.get(), path);
    if (!removed && !first) first = std::move(removed).error().in("cgroup " + hierarchy.name + ":" + path);
  }
  if (first) return fail(std::move(*first));
  // Runtimes other than ours use the v2 hierarchy beside v1's, too. It limits nothing there, and what is still in it
  // was told by the others.
  if (cgroups.unified.valid()) ignore(os::remove_cgroup(cgroups.unified.get(), path), "see above");
  return {};
}

}  // namespace berth::cri
