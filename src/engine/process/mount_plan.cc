#include "engine/process/mount_plan.h"

#include <linux/mount.h>
#include <sys/mount.h>

#include <algorithm>
#include <array>

#include "os/mount.h"

namespace berth::engine::process {

namespace {

/// An option that changes attributes of a mount. With "r" before it, those of the mounts below too.
struct Attribute {
  std::string_view name;
  std::uint64_t set;
  std::uint64_t clear;
};
// All atime modes are one field, which has to be cleared to be set (mount_setattr(2)).
constexpr std::array<Attribute, 16> kAttributes{{
    {"ro", MOUNT_ATTR_RDONLY, 0},
    {"rw", 0, MOUNT_ATTR_RDONLY},
    {"nosuid", MOUNT_ATTR_NOSUID, 0},
    {"suid", 0, MOUNT_ATTR_NOSUID},
    {"nodev", MOUNT_ATTR_NODEV, 0},
    {"dev", 0, MOUNT_ATTR_NODEV},
    {"noexec", MOUNT_ATTR_NOEXEC, 0},
    {"exec", 0, MOUNT_ATTR_NOEXEC},
    {"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
    {"diratime", 0, MOUNT_ATTR_NODIRATIME},
    {"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    {"atime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
}};
constexpr std::array<Attribute, 2> kNegatedTimes{{
    {"norelatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"nostrictatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
}};

struct PropagationName {
  std::string_view name;
  std::uint64_t type;
};
constexpr std::array<PropagationName, 4> kPropagation{{
    {"private", MS_PRIVATE},
    {"shared", MS_SHARED},
    {"slave", MS_SLAVE},
    {"unbindable", MS_UNBINDABLE},
}};

const Attribute* find_attribute(std::string_view name) {
  for (const auto& attribute : kAttributes) {
    if (attribute.name == name) return &attribute;
  }
  for (const auto& attribute : kNegatedTimes) {
    if (attribute.name == name) return &attribute;
  }
  return nullptr;
}

std::optional<MountOptions::Propagation> find_propagation(std::string_view name) {
  for (const auto& entry : kPropagation) {
    if (entry.name == name) return MountOptions::Propagation{entry.type, false};
    if (name.starts_with('r') && name.substr(1) == entry.name) return MountOptions::Propagation{entry.type, true};
  }
  return std::nullopt;
}

/// A later option takes back what an earlier one said about the same attribute.
void apply_attribute(const Attribute& attribute, std::uint64_t& set, std::uint64_t& clear) {
  const std::uint64_t touched = attribute.set | attribute.clear;
  set = (set & ~touched) | attribute.set;
  clear = (clear & ~touched) | attribute.clear;
}

/// Options that are neither attributes nor data; true when `name` is one.
bool apply_word(std::string_view name, MountOptions& out) {
  // mount(8) words without an effect in today's kernels.
  constexpr std::array<std::string_view, 8> kNothing{"",         "defaults",   "silent", "loud",
                                                     "iversion", "noiversion", "mand",   "nomand"};
  if (std::ranges::find(kNothing, name) != kNothing.end()) return true;
  if (name == "bind") return out.bind = true;
  if (name == "rbind") return out.bind = out.recursive_bind = true;
  if (name == "tmpcopyup") return out.copy_up = true;
  if (name == "idmap") return out.idmap = true;
  if (name == "ridmap") return out.idmap = out.recursive_idmap = true;
  return false;
}

std::uint64_t base_of(std::string_view propagation) {
  if (propagation.ends_with("shared")) return MS_SHARED;
  if (propagation.ends_with("private")) return MS_PRIVATE;
  return MS_SLAVE;
}

std::string_view propagation_name(std::uint64_t type) {
  for (const auto& entry : kPropagation) {
    if (entry.type == type) return entry.name;
  }
  return "none";
}

void describe_options(const MountOptions& options, std::string& text) {
  const auto bits = [&text](const char* label, std::uint64_t value) {
    if (value != 0) text.append(label).append(os::mount_attr_text(value));
  };
  bits(" set=", options.set);
  bits(" clear=", options.clear & ~static_cast<std::uint64_t>(MOUNT_ATTR__ATIME));
  bits(" rset=", options.recursive_set);
  bits(" rclear=", options.recursive_clear & ~static_cast<std::uint64_t>(MOUNT_ATTR__ATIME));
  if (((options.clear | options.recursive_clear) & MOUNT_ATTR__ATIME) != 0) text.append(" atime");
  for (const auto& entry : options.propagation) {
    text.append(entry.recursive ? " r" : " ").append(propagation_name(entry.type));
  }
  if (options.copy_up) text.append(" copy-up");
  if (options.idmap) text.append(options.recursive_idmap ? " ridmap" : " idmap");
  for (const auto& entry : options.data) {
    text.append(" ").append(entry.key);
    if (entry.value) text.append("=").append(*entry.value);
  }
}

/// linux.mountLabel: as an option of file systems that hold files of their own; not for those whose files the policy
/// labels by itself (proc, sysfs), and on mqueue's folder, since that one does not know the option.
void apply_label(const std::string& label, PlannedMount& mount) {
  if (label.empty() || mount.kind != MountKind::kFilesystem) return;
  if (mount.type == "proc" || mount.type == "sysfs") return;
  const auto is_context = [](const auto& entry) { return entry.key == "context"; };
  if (std::ranges::any_of(mount.options.data, is_context)) return;
  if (mount.type == "mqueue") {
    mount.file_label = label;
  } else {
    mount.options.data.push_back({"context", label});
  }
}

}  // namespace

Result<MountOptions> parse_mount_options(const std::vector<std::string>& options) {
  MountOptions out;
  for (const auto& option : options) {
    if (apply_word(option, out)) continue;
    if (const auto* const attribute = find_attribute(option)) {
      apply_attribute(*attribute, out.set, out.clear);
    } else if (const auto propagation = find_propagation(option)) {
      out.propagation.push_back(*propagation);
    } else if (const auto* const recursive =
                   option.starts_with('r') ? find_attribute(std::string_view(option).substr(1)) : nullptr) {
      apply_attribute(*recursive, out.recursive_set, out.recursive_clear);
    } else if (option == "remount") {
      return fail(Code::kUnsupported, "the mount option \"remount\" is not built");
    } else {
      const std::size_t equals = option.find('=');
      if (equals == std::string::npos) {
        out.data.push_back({option, std::nullopt});
      } else {
        out.data.push_back({option.substr(0, equals), option.substr(equals + 1)});
      }
    }
  }
  return out;
}

std::string in_bundle(const std::string& path, const std::string& bundle) {
  return path.starts_with('/') ? path : bundle + "/" + path;
}

Result<MountPlan> plan_mounts(const spec::Spec& spec, const std::string& bundle) {
  MountPlan plan;
  const std::string& propagation = spec.linux ? spec.linux->rootfs_propagation : std::string();
  plan.base_propagation = base_of(propagation);
  if (!propagation.empty()) {
    const auto wanted = find_propagation(propagation);
    if (!wanted) return fail(Code::kInvalid, "linux.rootfsPropagation: \"" + propagation + "\"");
    plan.root_propagation = *wanted;
  }
  for (std::size_t i = 0; i < spec.mounts.size(); ++i) {
    const auto& mount = spec.mounts[i];
    PlannedMount entry;
    entry.spec_index = i;
    BERTH_ASSIGN(entry.options, parse_mount_options(mount.options), "mounts[" + std::to_string(i) + "]");
    entry.target = mount.destination.starts_with('/') ? mount.destination : "/" + mount.destination;
    const std::size_t last = entry.target.find_last_not_of('/');
    if (last == std::string::npos) {
      return fail(Code::kUnsupported, "mounts[" + std::to_string(i) + "]: a mount over \"/\" is not built");
    }
    entry.target.resize(last + 1);
    if (entry.options.bind || mount.type == "bind" || mount.type == "rbind") {
      entry.kind = MountKind::kBind;
      entry.options.recursive_bind |= mount.type == "rbind";
      entry.source = in_bundle(mount.source, bundle);
      if (entry.target == "/dev") plan.make_devices = false;
    } else if (mount.type == "cgroup" || mount.type == "cgroup2") {
      entry.kind = MountKind::kCgroup;
    } else {
      if (mount.type.empty()) return fail(Code::kInvalid, "mounts[" + std::to_string(i) + "].type is missing");
      entry.type = mount.type;
      entry.source = mount.source;
    }
    if (spec.linux) apply_label(spec.linux->mount_label, entry);
    if (!mount.uid_mappings.empty() || !mount.gid_mappings.empty()) entry.options.idmap = true;
    plan.mounts.push_back(std::move(entry));
  }
  return plan;
}

std::string describe(const MountPlan& plan) {
  std::string text = "base ";
  text.append(propagation_name(plan.base_propagation)).append("\n");
  for (const auto& mount : plan.mounts) {
    switch (mount.kind) {
      case MountKind::kBind:
        text.append(mount.options.recursive_bind ? "rbind " : "bind ").append(mount.source);
        break;
      case MountKind::kFilesystem:
        text.append("mount ").append(mount.type);
        break;
      case MountKind::kCgroup:
        text.append("cgroup");
        break;
    }
    text.append(" on ").append(mount.target);
    describe_options(mount.options, text);
    if (!mount.file_label.empty()) text.append(" label=").append(mount.file_label);
    text.push_back('\n');
  }
  if (plan.make_devices) text.append("devices\n");
  if (plan.root_propagation.type != 0) {
    text.append("root ").append(plan.root_propagation.recursive ? "r" : "");
    text.append(propagation_name(plan.root_propagation.type)).append("\n");
  }
  return text;
}

}  // namespace berth::engine::process
