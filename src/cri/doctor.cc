#include "cri/doctor.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <functional>
#include <iterator>
#include <string_view>
#include <utility>

#include "base/strings.h"
#include "cri/service_impl.h"
#include "image/store.h"
#include "network/network.h"
#include "os/caps.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/pidfd.h"

namespace berth::cri {

namespace {

// A kubelet evicts pods when less of its image file system is free (imagefs.available<15%, its default); far below that
// pulls fail.
constexpr unsigned kLowPercent = 15;
constexpr unsigned kEmptyPercent = 5;

Probe good(std::string name, std::string found) {
  return {.name = std::move(name), .health = Health::kGood, .found = std::move(found), .remedy = {}};
}
Probe limited(std::string name, std::string found, std::string remedy) {
  return {.name = std::move(name), .health = Health::kLimited, .found = std::move(found), .remedy = std::move(remedy)};
}
Probe bad(std::string name, std::string found, std::string remedy) {
  return {.name = std::move(name), .health = Health::kBad, .found = std::move(found), .remedy = std::move(remedy)};
}

/// A probe with the time that it took.
Probe timed(const std::function<Probe()>& look) {
  const auto begun = std::chrono::steady_clock::now();
  Probe probe = look();
  probe.took_us =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begun).count();
  return probe;
}

std::string words(const std::vector<std::string>& all) {
  return all.empty() ? std::string("none") : join(all, ", ");
}

Probe probe_overlay() {
  const std::string name = "kernel: overlay";
  const auto context = os::fs_open("overlay");
  if (context) return good(name, "containers' root file systems can be made");
  return bad(name, context.error().text(), "load the module overlay, or take a kernel with CONFIG_OVERLAY_FS");
}

Probe probe_mount_calls() {
  const std::string name = "kernel: mount calls";
  const auto tree = os::clone_tree(AT_FDCWD, "/", false);
  if (!tree) return bad(name, tree.error().text(), "take a kernel from 5.12 on; in a container, allow its mount calls");
  const auto changed = os::change_mount(tree->get(), {.set = MOUNT_ATTR_RDONLY}, true);
  if (changed) return good(name, "open_tree, move_mount, mount_setattr");
  return bad(name, changed.error().text(), "take a kernel from 5.12 on; in a container, allow its mount calls");
}

Probe probe_pidfd() {
  const std::string name = "kernel: pidfd";
  const auto self = os::open_pidfd(::getpid());
  if (self) return good(name, "the ends of processes are seen");
  return bad(name, self.error().text(), "take a kernel from 5.3 on");
}

Probe probe_user_namespaces() {
  const std::string name = "kernel: user namespaces";
  const auto text = os::read_file("/proc/sys/user/max_user_namespaces", 64);
  const auto most = text ? parse_number<std::uint64_t>(trim(*text)) : std::nullopt;
  if (most && *most > 0) return good(name, "at most " + std::to_string(*most));
  return limited(name, text ? "at most 0" : text.error().text(),
                 "set the sysctl user.max_user_namespaces; without them no pod can have one");
}

Probe probe_pressure(const HostFacts& host) {
  const std::string name = "kernel: pressure (PSI)";
  if (!os::read_file("/proc/pressure/cpu", 4096)) {
    return limited(name, "not counted", "start the kernel with psi=1; statistics tell no pressure without it");
  }
  if (host.cgroup_v2) return good(name, "counted for each pod and container");
  return limited(name, "counted for the machine alone", "use cgroup v2; under v1 statistics tell no pressure");
}

Probe probe_caps(const HostFacts& host) {
  const std::string name = "capabilities";
  std::vector<std::string> missing;
  const auto names = os::cap_names();
  for (std::size_t i = 0; i < names.size(); ++i) {
    if ((host.bounding_caps >> i & 1U) == 0) missing.emplace_back(names[i]);
  }
  if (missing.empty()) return good(name, "all " + std::to_string(names.size()));
  return limited(
      name, "without " + words(missing),
      "start berthd with them; containers that ask for one are given what there is, with a warning in the log");
}

std::string features_text(const pb::RuntimeHandlerFeatures& features) {
  std::vector<std::string> has;
  if (features.recursive_read_only_mounts()) has.emplace_back("recursive read-only mounts");
  if (features.user_namespaces()) has.emplace_back("user namespaces");
  return "features: " + words(has);
}

}  // namespace

Probe probe_runtime(const os::CgroupLayout& cgroups, std::size_t sandboxes, std::size_t containers) {
  const std::string name = "RuntimeReady";
  const std::string found = std::to_string(sandboxes) + " pods, " + std::to_string(containers) + " containers";
  if (!cgroups.hierarchies.empty()) return good(name, found);
  return bad(name, "no cgroups are mounted at " + cgroups.root, "mount cgroup2 there and start berthd again");
}

Probe probe_network(const network::Status& status) {
  const std::string name = "NetworkReady";
  const std::string kind = status.builtin ? "the built-in network" : "the CNI network " + status.network;
  if (status.ready) return good(name, kind);
  return bad(name, status.reason + ": " + status.message,
             "correct the configuration in the CNI folder ([network] conf_dir) and its plugins, or remove it for the "
             "built-in network");
}

pb::RuntimeHandlerFeatures features_of(const HandlerFeatures& features) {
  pb::RuntimeHandlerFeatures has;
  has.set_recursive_read_only_mounts(features.recursive_read_only_mounts());
  has.set_user_namespaces(features.user_namespaces());
  return has;
}

pb::RuntimeFeatures runtime_features(const HandlerFeatures& own) {
  pb::RuntimeFeatures features;
  features.set_supplemental_groups_policy(true);
  features.set_mount_options(true);
  features.set_user_namespaces_host_network(own.user_namespaces());
  return features;
}

std::vector<Probe> probe_handlers(const HandlerTable& table, const FeatureTable& features) {
  std::vector<Probe> probes;
  for (const auto& [key, handler] : table.handlers) {
    probes.push_back(timed([&] {
      const bool is_default = key == table.default_handler;
      const std::string name = "handler " + key;
      const std::string what = !handler.shim.empty() ? "shim " + handler.shim
                               : handler.ours()      ? "Berth's own engine"
                                                     : "runtime " + handler.binary;
      if (const auto ready = check_ready(handler); !ready) {
        const std::string remedy = "install the program, or correct [handlers." + key + "] in the configuration";
        return is_default ? bad(name, ready.error().text(), remedy) : limited(name, ready.error().text(), remedy);
      }
      return good(name,
                  what + (is_default ? ", the default; " : "; ") + features_text(features_of(features.of(handler))));
    }));
  }
  return probes;
}

std::vector<Probe> probe_kernel(const HostFacts& host) {
  return {timed(probe_overlay),
          timed(probe_mount_calls),
          timed(probe_pidfd),
          timed(probe_user_namespaces),
          timed([&] { return probe_pressure(host); }),
          timed([&] { return probe_caps(host); })};
}

Probe probe_shim(const std::string& path) {
  if (::access(path.c_str(), X_OK) == 0) return good("shim", path);
  return bad("shim", fail_errno(errno, path).error().text(),
             "install it, or correct [runtime] shim in the configuration");
}

Probe probe_cgroups(const os::CgroupLayout& cgroups, const HostFacts& host) {
  const std::string name = "cgroups";
  if (cgroups.hierarchies.empty()) {
    return bad(name, "none are mounted at " + cgroups.root, "mount cgroup2 there and start berthd again");
  }
  std::vector<std::string> there;
  if (cgroups.v2) {
    const auto text = os::read_file_at(cgroups.hierarchies.front().root.get(), "cgroup.controllers", 4096);
    for (const auto word : split(text ? trim(*text) : std::string_view(), ' ')) {
      if (!word.empty()) there.emplace_back(word);
    }
  } else {
    for (const auto& hierarchy : cgroups.hierarchies) {
      for (const auto& controller : hierarchy.controllers) there.push_back(controller);
    }
  }
  std::vector<std::string> missing;
  for (const char* wanted : {"cpu", "cpuset", "memory", "pids"}) {
    if (std::ranges::find(there, wanted) == there.end()) missing.emplace_back(wanted);
  }
  const std::string mode = cgroups.v2 ? "v2" : cgroups.unified.valid() ? "v1, v2 beside it (hybrid)" : "v1";
  const std::string found = mode + ": " + words(there);
  if (!missing.empty()) {
    return limited(name, found, "enable " + words(missing) + ": limits that need one are refused");
  }
  std::vector<std::string> lacks;
  if (!host.swap_accounting) lacks.emplace_back("swap is not accounted (swapaccount=1)");
  if (!host.hugetlb) lacks.emplace_back("huge pages are not limited (controller hugetlb)");
  if (lacks.empty()) return good(name, found);
  return limited(name, found + "; " + join(lacks, "; "), "enable them in the kernel if pods ask for such limits");
}

Probe probe_driver(CgroupDriver driver, const std::string& scope_program, const std::string& parent) {
  const std::string name = "cgroup driver";
  if (driver == CgroupDriver::kCgroupfs) return good(name, "cgroupfs; pods without a parent below " + parent);
  if (::access(scope_program.c_str(), X_OK) != 0) {
    return bad(name, "systemd, by " + fail_errno(errno, scope_program).error().text(),
               "install berth-scope beside berthd and start that again");
  }
  if (!os::exists("/run/systemd/private") && !os::exists("/run/dbus/system_bus_socket")) {
    return bad(name, "systemd, of which there is no socket", "make /run/systemd visible to berthd");
  }
  return good(name, "systemd, by " + scope_program + "; pods without a parent in " + parent);
}

Probe probe_security(const HostFacts& host) {
  const std::string name = "AppArmor and SELinux";
  if (host.selinux) {
    return limited(name, std::string(host.apparmor ? "AppArmor; " : "") + "SELinux is on",
                   "pods that ask for SELinux labels are refused: they are not built yet");
  }
  if (host.apparmor && host.apparmor_default.empty()) {
    return limited(name, "AppArmor, without the profile of containers: " + host.apparmor_problem,
                   "install apparmor_parser and start berthd again: until then containers that name no profile are "
                   "unconfined, and those that ask for RuntimeDefault are refused");
  }
  if (host.apparmor) return good(name, "AppArmor, with the profile " + host.apparmor_default);
  return limited(name, "neither is on", "start the kernel with lsm=...,apparmor if pods ask for AppArmor profiles");
}

Probe probe_space(std::string name, const std::string& path) {
  struct statvfs fs{};
  if (::statvfs(path.c_str(), &fs) != 0) {
    return bad(std::move(name), fail_errno(errno, "statvfs " + path).error().text(), "look at that file system");
  }
  const auto percent = [](std::uint64_t part, std::uint64_t whole) {
    return whole == 0 ? 100U : static_cast<unsigned>(static_cast<double>(part) * 100 / static_cast<double>(whole));
  };
  const unsigned bytes = percent(fs.f_bavail, fs.f_blocks);
  const unsigned inodes = percent(fs.f_favail, fs.f_files);  // some file systems have no fixed number: 100
  const std::string found = human_bytes(fs.f_bavail * fs.f_frsize) + " of " + human_bytes(fs.f_blocks * fs.f_frsize) +
                            " free (" + std::to_string(bytes) + " %), inodes " + std::to_string(inodes) + " %, " + path;
  const std::string remedy = "remove images (berth images, berth rmi) or pods, or give " + path + " more room";
  const auto least = std::min(bytes, inodes);
  if (least < kEmptyPercent) return bad(std::move(name), found, remedy);
  if (least < kLowPercent) return limited(std::move(name), found, remedy);
  return good(std::move(name), found);
}

Probe probe_program(const std::string& program, const std::string& use) {
  for (const char* folder : {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}) {
    const std::string path = std::string(folder) + "/" + program;
    if (::access(path.c_str(), X_OK) == 0) return good(program, path);
  }
  return limited(program, "not installed", "install " + program + " for " + use);
}

std::vector<Probe> ServiceImpl::doctor() {
  std::vector<Probe> all;
  const auto add = [&all](const std::function<Probe()>& look) { all.push_back(timed(look)); };
  add([this] { return probe_runtime(cgroups_, registry_->sandboxes().size(), registry_->containers().size()); });
  add([this] {
    // Unlike Status, which may not wait for a plugin.
    ignore(options_.network->probe(), "what it found is in the status");
    return probe_network(options_.network->status());
  });
  std::ranges::move(probe_handlers(handlers_.table(), features_), std::back_inserter(all));
  add([this] { return probe_shim(options_.shim_path); });
  add([this] { return probe_cgroups(cgroups_, host_); });
  add([this] { return probe_driver(options_.cgroup_driver, options_.scope_program, options_.cgroup_parent); });
  std::ranges::move(probe_kernel(host_), std::back_inserter(all));
  add([this] { return probe_security(host_); });
  add([this] { return probe_space("image store", options_.images->usage().mountpoint); });
  add([this] { return probe_space("state", options_.state_dir); });
  add([] { return probe_program("criu", "checkpoints of containers and pods"); });
  return all;
}

}  // namespace berth::cri
