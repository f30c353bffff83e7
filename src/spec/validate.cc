#include <algorithm>
#include <array>
#include <set>

#include "base/strings.h"
#include "spec/json_text.h"
#include "spec/runtime.h"

namespace berth::spec {

namespace {

constexpr std::size_t kMaxIdMappings = 340;    // user_namespaces(7): lines in uid_map since Linux 4.15
constexpr std::size_t kMaxInterfaceName = 15;  // netdevice(7): IFNAMSIZ without the NUL

std::unexpected<Error> fault(std::string_view path, std::string_view what) {
  return fail(Code::kInvalid, std::string(path).append(": ").append(what));
}

std::string at(std::string_view list, std::size_t index, std::string_view member = {}) {
  std::string text(list);
  text.append("[").append(std::to_string(index)).append("]");
  if (!member.empty()) text.append(".").append(member);
  return text;
}

bool absolute(std::string_view path) {
  return path.starts_with('/');
}

template <std::size_t N>
bool one_of(std::string_view word, const std::array<std::string_view, N>& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// A document cannot carry NUL (parse_spec refuses it), but a Spec built in memory can.
Result<> no_nul(std::string_view path, std::string_view value) {
  if (value.find('\0') == std::string_view::npos) return {};
  return fault(path, "must not hold a NUL byte");
}

Result<> no_nul(std::string_view path, const std::vector<std::string>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i].find('\0') != std::string::npos) return fault(at(path, i), "must not hold a NUL byte");
  }
  return {};
}

/// The specification follows SemVer; this library knows the documents of major version 1.
Result<> check_version(std::string_view version) {
  if (version.empty()) return fault("ociVersion", "is missing");
  const auto parts = split(version, '.');
  if (parts.size() < 3 || !parse_number<unsigned>(parts[0]) || !parse_number<unsigned>(parts[1])) {
    return fault("ociVersion", quote(version.substr(0, 64)) + " is no semantic version");
  }
  if (parts[0] != "1") return fault("ociVersion", quote(version.substr(0, 64)) + " is not supported, only 1.x is");
  return {};
}

Result<> check_root(const std::optional<Root>& root) {
  if (!root) return fault("root", "is missing");
  if (root->path.empty()) return fault("root.path", "is empty");
  return no_nul("root.path", root->path);
}

/// Sorted by `start`, no range may reach into the next one.
Result<> check_overlap(std::string_view path, std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges,
                       std::string_view side) {
  std::sort(ranges.begin(), ranges.end());
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i - 1].second > ranges[i].first) {
      return fault(path, std::string("two ranges of ").append(side).append(" overlap"));
    }
  }
  return {};
}

Result<> check_mappings(std::string_view path, const std::vector<IdMapping>& mappings) {
  if (mappings.size() > kMaxIdMappings) {
    return fault(path, "has " + std::to_string(mappings.size()) + " entries, the kernel takes " +
                           std::to_string(kMaxIdMappings));
  }
  std::vector<std::pair<std::uint64_t, std::uint64_t>> inside;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> outside;
  for (std::size_t i = 0; i < mappings.size(); ++i) {
    const IdMapping& mapping = mappings[i];
    if (mapping.size == 0) return fault(at(path, i, "size"), "is 0");
    const auto container_end = std::uint64_t{mapping.container_id} + mapping.size;
    const auto host_end = std::uint64_t{mapping.host_id} + mapping.size;
    // 4294967295 is (uid_t)-1, which is nobody's.
    if (container_end > UINT32_MAX || host_end > UINT32_MAX) return fault(at(path, i), "reaches past 4294967294");
    inside.emplace_back(mapping.container_id, container_end);
    outside.emplace_back(mapping.host_id, host_end);
  }
  if (auto checked = check_overlap(path, std::move(inside), "container ids"); !checked) return checked;
  return check_overlap(path, std::move(outside), "host ids");
}

Result<> check_mount(const Mount& mount, const std::string& path) {
  // Relative targets are against the specification, but runc and crun take them as relative to the root, and old
  // generators write them.
  if (mount.destination.empty()) return fault(path + ".destination", "is empty");
  if (auto checked = no_nul(path + ".destination", mount.destination); !checked) return checked;
  if (auto checked = no_nul(path + ".source", mount.source); !checked) return checked;
  if (auto checked = no_nul(path + ".type", mount.type); !checked) return checked;
  if (auto checked = no_nul(path + ".options", mount.options); !checked) return checked;
  if (mount.uid_mappings.empty() != mount.gid_mappings.empty()) {
    return fault(path, "uidMappings and gidMappings belong together");
  }
  if (auto checked = check_mappings(path + ".uidMappings", mount.uid_mappings); !checked) return checked;
  return check_mappings(path + ".gidMappings", mount.gid_mappings);
}

Result<> check_hooks(std::string_view name, const std::vector<Hook>& hooks) {
  for (std::size_t i = 0; i < hooks.size(); ++i) {
    if (!absolute(hooks[i].path)) return fault(at(name, i, "path"), "must be an absolute path");
    if (hooks[i].timeout && *hooks[i].timeout <= 0) return fault(at(name, i, "timeout"), "must be greater than 0");
    if (auto checked = no_nul(at(name, i, "path"), hooks[i].path); !checked) return checked;
    if (auto checked = no_nul(at(name, i, "args"), hooks[i].args); !checked) return checked;
    if (auto checked = no_nul(at(name, i, "env"), hooks[i].env); !checked) return checked;
  }
  return {};
}

Result<> check_all_hooks(const Hooks& hooks) {
  const std::pair<std::string_view, const std::vector<Hook>*> lists[] = {
      {"hooks.prestart", &hooks.prestart},
      {"hooks.createRuntime", &hooks.create_runtime},
      {"hooks.createContainer", &hooks.create_container},
      {"hooks.startContainer", &hooks.start_container},
      {"hooks.poststart", &hooks.poststart},
      {"hooks.poststop", &hooks.poststop},
  };
  for (const auto& [name, list] : lists) {
    if (auto checked = check_hooks(name, *list); !checked) return checked;
  }
  return {};
}

Result<> check_namespaces(const Linux& linux) {
  std::set<NamespaceType> seen;
  for (std::size_t i = 0; i < linux.namespaces.size(); ++i) {
    const Namespace& entry = linux.namespaces[i];
    if (!seen.insert(entry.type).second) {
      return fault(at("linux.namespaces", i), std::string(namespace_name(entry.type)) + " is there twice");
    }
    if (!entry.path.empty() && !absolute(entry.path)) {
      return fault(at("linux.namespaces", i, "path"), "must be an absolute path");
    }
    if (auto checked = no_nul(at("linux.namespaces", i, "path"), entry.path); !checked) return checked;
  }
  const Namespace* user = linux.find_namespace(NamespaceType::kUser);
  const bool mapped = !linux.uid_mappings.empty() || !linux.gid_mappings.empty();
  if (mapped && user == nullptr) return fault("linux.uidMappings", "id mappings need a user namespace");
  if (user != nullptr && user->path.empty() && (linux.uid_mappings.empty() || linux.gid_mappings.empty())) {
    return fault("linux.namespaces", "a new user namespace needs uidMappings and gidMappings");
  }
  if (!linux.time_offsets.empty() && linux.find_namespace(NamespaceType::kTime) == nullptr) {
    return fault("linux.timeOffsets", "needs a time namespace");
  }
  if (!linux.net_devices.empty() && linux.find_namespace(NamespaceType::kNetwork) == nullptr) {
    return fault("linux.netDevices", "needs a network namespace");
  }
  const bool hides = !linux.masked_paths.empty() || !linux.readonly_paths.empty();
  if (hides && linux.find_namespace(NamespaceType::kMount) == nullptr) {
    return fault("linux.maskedPaths", "masked and read-only paths need a mount namespace");
  }
  return {};
}

Result<> check_devices(const Linux& linux) {
  static constexpr std::array<std::string_view, 4> kTypes = {"c", "b", "u", "p"};
  static constexpr std::array<std::string_view, 4> kRuleTypes = {"", "a", "b", "c"};
  for (std::size_t i = 0; i < linux.devices.size(); ++i) {
    const Device& device = linux.devices[i];
    if (!absolute(device.path)) return fault(at("linux.devices", i, "path"), "must be an absolute path");
    if (auto checked = no_nul(at("linux.devices", i, "path"), device.path); !checked) return checked;
    if (!one_of(device.type, kTypes)) return fault(at("linux.devices", i, "type"), "must be c, b, u or p");
    if (device.type != "p" && (device.major < 0 || device.minor < 0)) {
      return fault(at("linux.devices", i), "major and minor must not be negative");
    }
  }
  if (!linux.resources) return {};
  for (std::size_t i = 0; i < linux.resources->devices.size(); ++i) {
    const DeviceRule& rule = linux.resources->devices[i];
    if (!one_of(rule.type, kRuleTypes)) return fault(at("linux.resources.devices", i, "type"), "must be a, b or c");
    if (rule.access.find_first_not_of("rwm") != std::string::npos) {
      return fault(at("linux.resources.devices", i, "access"), "must be made of r, w and m");
    }
  }
  return {};
}

Result<> check_seccomp(const Seccomp& seccomp) {
  if (seccomp.default_action.empty()) return fault("linux.seccomp.defaultAction", "is missing");
  for (std::size_t i = 0; i < seccomp.syscalls.size(); ++i) {
    if (seccomp.syscalls[i].names.empty()) return fault(at("linux.seccomp.syscalls", i, "names"), "is empty");
    if (seccomp.syscalls[i].action.empty()) return fault(at("linux.seccomp.syscalls", i, "action"), "is missing");
  }
  return {};
}

Result<> check_net_devices(const Linux& linux) {
  for (const auto& [host_name, device] : linux.net_devices) {
    for (const std::string_view name : {std::string_view(host_name), std::string_view(device.name)}) {
      if (name.size() > kMaxInterfaceName || name == "." || name == ".." ||
          name.find_first_of(std::string_view("/: \t\n\v\f\r\0", 9)) != std::string_view::npos) {
        return fault("linux.netDevices", quote(name.substr(0, 64)) + " is no interface name");
      }
    }
    if (host_name.empty()) return fault("linux.netDevices", "an interface name is empty");
  }
  return {};
}

Result<> check_linux(const Linux& linux) {
  static constexpr std::array<std::string_view, 9> kPropagation = {
      "", "shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"};
  if (auto checked = check_namespaces(linux); !checked) return checked;
  if (auto checked = check_mappings("linux.uidMappings", linux.uid_mappings); !checked) return checked;
  if (auto checked = check_mappings("linux.gidMappings", linux.gid_mappings); !checked) return checked;
  if (auto checked = check_devices(linux); !checked) return checked;
  if (auto checked = check_net_devices(linux); !checked) return checked;
  if (!one_of(linux.rootfs_propagation, kPropagation)) {
    return fault("linux.rootfsPropagation", "must be shared, slave, private or unbindable, or one of them with an r");
  }
  for (const auto& [clock, offset] : linux.time_offsets) {
    if (clock != "monotonic" && clock != "boottime") {
      return fault("linux.timeOffsets", quote(clock.substr(0, 64)) + " is neither monotonic nor boottime");
    }
    if (offset.nanosecs > 999'999'999) return fault("linux.timeOffsets." + clock, "nanosecs must be below 1000000000");
  }
  if (auto checked = no_nul("linux.maskedPaths", linux.masked_paths); !checked) return checked;
  if (auto checked = no_nul("linux.readonlyPaths", linux.readonly_paths); !checked) return checked;
  if (auto checked = no_nul("linux.cgroupsPath", linux.cgroups_path); !checked) return checked;
  return linux.seccomp ? check_seccomp(*linux.seccomp) : Result<>{};
}

Result<> check_names(const Spec& spec) {
  const Linux* linux = spec.linux ? &*spec.linux : nullptr;
  const bool private_uts = linux != nullptr && linux->find_namespace(NamespaceType::kUts) != nullptr;
  if (!spec.hostname.empty() && !private_uts) return fault("hostname", "needs a UTS namespace");
  if (!spec.domainname.empty() && !private_uts) return fault("domainname", "needs a UTS namespace");
  if (spec.annotations.contains("")) return fault("annotations", "a name is empty");
  return {};
}

}  // namespace

Result<> validate(const Process& process) {
  if (process.args.empty()) return fault("process.args", "is empty");
  if (process.args.front().empty()) return fault("process.args[0]", "is empty");
  if (!absolute(process.cwd)) return fault("process.cwd", "must be an absolute path");
  if (auto checked = no_nul("process.cwd", process.cwd); !checked) return checked;
  if (auto checked = no_nul("process.args", process.args); !checked) return checked;
  if (auto checked = no_nul("process.env", process.env); !checked) return checked;
  std::set<std::string_view> limits;
  for (std::size_t i = 0; i < process.rlimits.size(); ++i) {
    const Rlimit& limit = process.rlimits[i];
    if (!limits.insert(limit.type).second) return fault(at("process.rlimits", i), limit.type + " is there twice");
    if (limit.soft > limit.hard) return fault(at("process.rlimits", i), "the soft limit is above the hard limit");
  }
  if (process.oom_score_adj && (*process.oom_score_adj < -1000 || *process.oom_score_adj > 1000)) {
    return fault("process.oomScoreAdj", "must be from -1000 to 1000");
  }
  return {};
}

Result<> validate(const Spec& spec) {
  if (auto checked = check_version(spec.oci_version); !checked) return checked;
  if (spec.process) {
    if (auto checked = validate(*spec.process); !checked) return checked;
  }
  if (auto checked = check_root(spec.root); !checked) return checked;
  for (std::size_t i = 0; i < spec.mounts.size(); ++i) {
    if (auto checked = check_mount(spec.mounts[i], at("mounts", i)); !checked) return checked;
  }
  if (spec.hooks) {
    if (auto checked = check_all_hooks(*spec.hooks); !checked) return checked;
  }
  if (spec.linux) {
    if (auto checked = check_linux(*spec.linux); !checked) return checked;
  }
  return check_names(spec);
}

}  // namespace berth::spec
