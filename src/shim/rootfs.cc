#include "shim/rootfs.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <array>
#include <cerrno>
#include <string_view>

#include "os/file.h"
#include "os/mount.h"
#include "shim/mapped_layers.h"

namespace berth::shim {
namespace {

struct Attribute {
  std::string_view option;
  std::uint64_t bit;
};
constexpr std::array<Attribute, 9> kAttributes = {{{"ro", MOUNT_ATTR_RDONLY},
                                                   {"nosuid", MOUNT_ATTR_NOSUID},
                                                   {"nodev", MOUNT_ATTR_NODEV},
                                                   {"noexec", MOUNT_ATTR_NOEXEC},
                                                   {"noatime", MOUNT_ATTR_NOATIME},
                                                   {"strictatime", MOUNT_ATTR_STRICTATIME},
                                                   {"nodiratime", MOUNT_ATTR_NODIRATIME},
                                                   {"nosymfollow", 0x00200000 /* MOUNT_ATTR_NOSYMFOLLOW */},
                                                   {"relatime", 0}}};
constexpr std::array<std::string_view, 6> kDefaults = {"rw", "suid", "dev", "exec", "atime", "defaults"};

std::uint64_t find_attribute(std::string_view option, bool& found) {
  for (const Attribute& attribute : kAttributes) {
    if (attribute.option == option) {
      found = true;
      return attribute.bit;
    }
  }
  for (const std::string_view word : kDefaults) found = found || word == option;
  return 0;
}

// "a:b\:c" is "a" and "b:c", as overlayfs reads a list in one string.
std::vector<std::string> split_lower(std::string_view text) {
  std::vector<std::string> parts(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) {
      parts.back() += text[++i];
    } else if (text[i] == ':') {
      parts.emplace_back();
    } else {
      parts.back() += text[i];
    }
  }
  return parts;
}

Result<UniqueFd> make_bind(const RootPlan& plan) {
  BERTH_ASSIGN(UniqueFd tree, os::clone_tree(AT_FDCWD, plan.source, plan.recursive), "bind " + plan.source);
  if (plan.attributes != 0) {
    os::MountChange change;
    change.set = plan.attributes;
    if ((plan.attributes & (MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME)) != 0) change.clear = MOUNT_ATTR__ATIME;
    BERTH_TRY(os::change_mount(tree.get(), change, plan.recursive), "bind " + plan.source);
  }
  return tree;
}

Result<UniqueFd> make_filesystem(const RootPlan& plan) {
  BERTH_ASSIGN(const UniqueFd context, os::fs_open(plan.type), "root file system");
  if (!plan.source.empty()) BERTH_TRY(os::fs_set(context.get(), "source", plan.source.c_str()), plan.type);
  for (const std::string& lower : plan.lower)
    BERTH_TRY(os::fs_set(context.get(), "lowerdir+", lower.c_str()), plan.type);
  for (const RootPlan::Setting& setting : plan.settings) {
    BERTH_TRY(os::fs_set(context.get(), setting.key, setting.flag ? nullptr : setting.value.c_str()), plan.type);
  }
  return os::fs_mount(context.get(), plan.attributes);
}

// A folder by its descriptor: short, and without characters that need escapes in an option string.
struct PathList {
  std::vector<UniqueFd> folders;
  std::string text;

  Result<> add(const std::string& path) {
    BERTH_ASSIGN(UniqueFd folder, os::open_file(path, O_PATH | O_DIRECTORY), "overlay folder");
    text += "/proc/self/fd/" + std::to_string(folder.get());
    folders.push_back(std::move(folder));
    return {};
  }
};

}  // namespace

Result<RootPlan> plan_root(const RootMount& mount) {
  RootPlan plan;
  plan.type = mount.type;
  plan.source = mount.source;
  if (mount.type == "bind") plan.bind = true;
  for (const std::string& option : mount.options) {
    bool known = false;
    plan.attributes |= find_attribute(option, known);
    if (option == "bind" || option == "rbind") {
      plan.bind = true;
      plan.recursive = plan.recursive || option == "rbind";
    } else if (option.starts_with("uidmap=")) {
      BERTH_ASSIGN(plan.uid_map, parse_id_range(std::string_view(option).substr(7)), "root mount: uidmap");
    } else if (option.starts_with("gidmap=")) {
      BERTH_ASSIGN(plan.gid_map, parse_id_range(std::string_view(option).substr(7)), "root mount: gidmap");
    } else if (option.starts_with("X-containerd.")) {
      return fail(Code::kUnsupported, "root mount option " + option);
    } else if (!known && plan.type == "overlay" && option.starts_with("lowerdir=")) {
      plan.lower = split_lower(std::string_view(option).substr(9));
    } else if (!known && !option.empty()) {
      const std::size_t equals = option.find('=');
      const bool flag = equals == std::string::npos;
      plan.settings.push_back({option.substr(0, equals), flag ? std::string() : option.substr(equals + 1), flag});
    }
  }
  if (plan.uid_map.empty() != plan.gid_map.empty()) {
    return fail(Code::kInvalid, "root mount: uidmap and gidmap belong together");
  }
  if (plan.bind) {
    if (plan.source.empty()) return fail(Code::kInvalid, "root mount: bind without a source");
    return plan;
  }
  if (plan.type.empty()) return fail(Code::kInvalid, "root mount: no file system type");
  if (plan.type == "overlay") {
    if (plan.lower.empty()) return fail(Code::kInvalid, "root mount: overlay without lowerdir");
    for (const std::string& lower : plan.lower) {
      if (!lower.starts_with('/')) return fail(Code::kInvalid, "root mount: lowerdir is not absolute: " + lower);
    }
  } else if ((plan.attributes & MOUNT_ATTR_RDONLY) != 0) {
    // The superblock too: an image file on a read-only disk cannot be opened for writing.
    plan.settings.push_back({"ro", {}, true});
  }
  return plan;
}

Result<UniqueFd> make_overlay_by_mount(const RootPlan& plan, const std::string& spare_folder) {
  PathList lower;
  for (const std::string& path : plan.lower) {
    if (!lower.text.empty()) lower.text += ':';
    BERTH_TRY(lower.add(path), "lowerdir");
  }
  std::string data = "lowerdir=" + lower.text;
  PathList writable;
  for (const RootPlan::Setting& setting : plan.settings) {
    data += ',' + setting.key;
    if (setting.flag) continue;
    data += '=';
    if (setting.key == "upperdir" || setting.key == "workdir") {
      writable.text.clear();
      BERTH_TRY(writable.add(setting.value), setting.key);
      data += writable.text;
    } else {
      data += setting.value;
    }
  }
  if (::mount("overlay", spare_folder.c_str(), "overlay", 0, data.c_str()) != 0) {
    return fail_errno(errno, "mount overlay of " + std::to_string(plan.lower.size()) + " layers");
  }
  auto tree = os::clone_tree(AT_FDCWD, spare_folder, false);
  BERTH_TRY(os::detach_mount(spare_folder), "root mount");
  if (!tree) return fail(std::move(tree).error().in("root mount"));
  os::MountChange change;
  change.set = plan.attributes;
  if ((plan.attributes & (MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME)) != 0) change.clear = MOUNT_ATTR__ATIME;
  if (!change.empty()) BERTH_TRY(os::change_mount(tree->get(), change, false), "root mount");
  return tree;
}

namespace {

Result<UniqueFd> make_overlay(const RootPlan& plan, const std::string& spare_folder) {
  auto tree = make_filesystem(plan);
  if (tree) return tree;
  // FALLBACK until kernel 6.7: no "lowerdir+", and a list in one string is cut at 255 bytes by fsconfig(2); mount(2)
  // takes a page. Also for upper folders with long names.
  if (tree.error().errno_value() != EINVAL && tree.error().errno_value() != ENOSYS) return tree;
  auto second = make_overlay_by_mount(plan, spare_folder);
  if (second) return second;
  return tree;
}

}  // namespace

Result<UniqueFd> make_root(const RootPlan& plan, const std::string& spare_folder) {
  const bool overlay = !plan.bind && plan.type == "overlay";
  UniqueFd map;
  if (!plan.uid_map.empty()) {
    BERTH_ASSIGN(map, open_root_map(plan.uid_map, plan.gid_map), "root mount");
  }
  if (overlay && map.valid()) {
    BERTH_ASSIGN(const MappedLayers layers, MappedLayers::attach(plan.lower, map.get(), spare_folder), "root mount");
    RootPlan mapped = plan;
    mapped.lower = layers.paths();
    return make_overlay(mapped, spare_folder);
  }
  if (overlay) return make_overlay(plan, spare_folder);
  auto tree = plan.bind ? make_bind(plan) : make_filesystem(plan);
  if (tree && map.valid()) BERTH_TRY(map_mount(tree->get(), map.get()), "root mount");
  return tree;
}

}  // namespace berth::shim
