#include "cri/cdi_devices.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "os/file.h"
#include "spec/own_options.h"

namespace berth::cri::cdi {
namespace {

constexpr std::string_view kAnnotation = "cdi.k8s.io/";
constexpr std::size_t kMaxFiles = 1024;  // of all folders

/// The files of all folders, in the order of their weight.
class Files final {
 public:
  Result<> read(const std::vector<std::string>& dirs);
  /// Where the device is: a file, and its place there.
  Result<std::pair<std::size_t, std::size_t>> find(const std::string& name) const;
  [[nodiscard]] const std::string& path(std::size_t file) const { return files_[file].path; }
  [[nodiscard]] const File& file(std::size_t file) const { return files_[file].content; }

 private:
  struct Entry {
    std::string path;
    std::size_t dir = 0;
    File content;
  };
  struct Place {
    std::size_t file = 0;
    std::size_t device = 0;
    std::size_t rival = 0;  // another file of the same folder that has it
    bool doubled = false;
  };
  Result<> read_dir(const std::string& dir, std::size_t weight);
  void add(Entry entry);

  std::vector<Entry> files_;
  std::map<std::string, Place, std::less<>> places_;
  std::string dirs_;
  std::string fault_;  // of the first file that cannot be read
};

Result<File> read_one(const std::string& path) {
  BERTH_ASSIGN(const auto text, os::read_regular_file(path, kMaxFileBytes), "read");
  return parse_file(text, path.ends_with(".yaml") ? Format::kYaml : Format::kJson);
}

void Files::add(Entry entry) {
  const std::size_t file = files_.size();
  for (std::size_t device = 0; device < entry.content.devices.size(); ++device) {
    const auto name = entry.content.kind + "=" + entry.content.devices[device].name;
    const auto [place, fresh] = places_.try_emplace(name, Place{file, device});
    if (fresh) continue;
    if (files_[place->second.file].dir == entry.dir) {
      place->second.rival = file;
      place->second.doubled = true;
    } else {
      place->second = {file, device};
    }
  }
  files_.push_back(std::move(entry));
}

Result<> Files::read_dir(const std::string& dir, std::size_t weight) {
  const auto names = os::list_dir(dir);
  if (!names && names.error().code() == Code::kNotFound) return {};
  if (!names) return fail(names.error());
  for (const auto& name : *names) {
    if (!name.ends_with(".json") && !name.ends_with(".yaml")) continue;
    if (files_.size() >= kMaxFiles) return fail(Code::kExhausted, dir + " has more files than are taken");
    Entry entry{dir + "/" + name, weight, {}};
    auto content = read_one(entry.path);
    if (content) {
      entry.content = std::move(*content);
      add(std::move(entry));
      continue;
    }
    log_warn("a CDI file is passed over", {{"file", entry.path}, {"err", content.error().text()}});
    if (fault_.empty()) fault_ = "; " + entry.path + " is passed over: " + content.error().text();
  }
  return {};
}

Result<> Files::read(const std::vector<std::string>& dirs) {
  dirs_ = join(dirs, ", ");
  for (std::size_t i = 0; i < dirs.size(); ++i) BERTH_TRY(read_dir(dirs[i], i), "CDI files");
  return {};
}

Result<std::pair<std::size_t, std::size_t>> Files::find(const std::string& name) const {
  const auto found = places_.find(name);
  if (found == places_.end()) {
    return fail(Code::kNotFound, "no file of " + dirs_ + " has the CDI device \"" + name + "\"" + fault_);
  }
  const auto& place = found->second;
  if (!place.doubled) return std::pair(place.file, place.device);
  return fail(Code::kPrecondition,
              "the CDI device \"" + name + "\" is in two files: " + path(place.file) + " and " + path(place.rival));
}

void set_variable(std::vector<std::string>& env, const std::string& variable) {
  const auto name = std::string_view(variable).substr(0, variable.find('=') + 1);
  std::erase_if(env, [name](const std::string& other) { return other.starts_with(name); });
  env.push_back(variable);
}

/// Fills what the file leaves to the host, as far as it does.
Result<spec::Device> device_of(const DeviceNode& node) {
  spec::Device out{.path = clean_path(node.path), .type = node.type, .major = node.major, .minor = node.minor};
  out.file_mode = node.file_mode;
  out.uid = node.uid;
  out.gid = node.gid;
  const std::string& place = node.host_path.empty() ? node.path : node.host_path;
  const bool whole = !node.type.empty() && (node.major != 0 || node.type == "p");
  struct stat status{};
  if (::lstat(place.c_str(), &status) != 0) {
    if (whole) return out;
    return fail_errno(errno, "device " + place);
  }
  const char* there = S_ISBLK(status.st_mode)    ? "b"
                      : S_ISCHR(status.st_mode)  ? "c"
                      : S_ISFIFO(status.st_mode) ? "p"
                                                 : "";
  if (*there == '\0') {
    if (whole) return out;
    return fail(Code::kInvalid, "device " + place + ": it is no device");
  }
  if (!out.file_mode) out.file_mode = status.st_mode & 07777U;
  if (whole) return out;
  if (out.type.empty()) out.type = there;
  if (out.type != there)
    return fail(Code::kInvalid, "device " + place + ": its type is " + there + ", not " + out.type);
  if (out.type != "p" && out.major == 0) {
    out.major = major(status.st_rdev);
    out.minor = minor(status.st_rdev);
  }
  return out;
}

Result<> add_node(const DeviceNode& node, spec::Spec& spec) {
  BERTH_ASSIGN(auto device, device_of(node), "deviceNodes");
  // As the user of the container has it: a device for it alone.
  if (!device.uid && spec.process->user.uid > 0) device.uid = spec.process->user.uid;
  if (!device.gid && spec.process->user.gid > 0) device.gid = spec.process->user.gid;
  auto& config = *spec.linux;
  std::erase_if(config.devices, [&](const spec::Device& other) { return other.path == device.path; });
  if (device.type != "p") {
    spec::DeviceRule rule;
    rule.allow = true;
    rule.type = device.type;
    rule.major = device.major;
    rule.minor = device.minor;
    rule.access = node.access;
    if (!rule.access.empty()) config.resources->devices.push_back(std::move(rule));
  }
  config.devices.push_back(std::move(device));
  return {};
}

void add_mount(spec::Mount mount, std::vector<spec::Mount>& mounts) {
  mount.destination = clean_path(mount.destination);
  std::erase_if(mounts, [&](const spec::Mount& other) { return other.destination == mount.destination; });
  // Before what lies below it, which it would hide.
  const std::string below = mount.destination == "/" ? "/" : mount.destination + "/";
  const auto place =
      std::ranges::find_if(mounts, [&below](const spec::Mount& other) { return other.destination.starts_with(below); });
  mounts.insert(place, std::move(mount));
}

std::vector<spec::Hook>& hooks_of(spec::Hooks& hooks, HookName name) {
  switch (name) {
    case HookName::kPrestart:
      return hooks.prestart;
    case HookName::kCreateRuntime:
      return hooks.create_runtime;
    case HookName::kCreateContainer:
      return hooks.create_container;
    case HookName::kStartContainer:
      return hooks.start_container;
    case HookName::kPoststart:
      return hooks.poststart;
    case HookName::kPoststop:
      break;
  }
  return hooks.poststop;
}

Result<> apply_one(const Edits& edits, bool shared_mounts, spec::Spec& spec) {
  for (const auto& variable : edits.env) set_variable(spec.process->env, variable);
  for (const auto& node : edits.device_nodes) BERTH_TRY(add_node(node, spec), "containerEdits");
  for (const auto& mount : edits.mounts) {
    if (clean_path(mount.destination) == "/") {
      return fail(Code::kInvalid, "containerEdits: mounts: nothing can be mounted on /");
    }
    auto made = mount;
    spec::mark_host_source(made, shared_mounts);
    if (spec::receives(made) && spec.linux->rootfs_propagation.empty()) spec.linux->rootfs_propagation = "rslave";
    add_mount(std::move(made), spec.mounts);
  }
  for (const auto& edit : edits.hooks) {
    if (!spec.hooks) spec.hooks.emplace();
    hooks_of(*spec.hooks, edit.name).push_back(edit.hook);
  }
  if (edits.intel_rdt) spec.linux->intel_rdt = edits.intel_rdt;
  auto& groups = spec.process->user.additional_gids;
  for (const auto group : edits.additional_gids) {
    if (std::ranges::find(groups, group) == groups.end()) groups.push_back(group);
  }
  return {};
}

}  // namespace

Result<std::vector<std::string>> requested_devices(const pb::ContainerConfig& config) {
  std::vector<std::string> names;
  std::set<std::string, std::less<>> seen;
  const auto add = [&](std::string_view name) -> Result<> {
    BERTH_TRY(parse_name(name), "device");
    if (names.size() >= kMaxRequested) return fail(Code::kInvalid, "more than 4096 CDI devices");
    if (seen.emplace(name).second) names.emplace_back(name);
    return {};
  };
  for (const auto& device : config.cdi_devices()) BERTH_TRY(add(device.name()), "CDI_devices");
  for (const auto& [key, value] : std::map(config.annotations().begin(), config.annotations().end())) {
    if (!key.starts_with(kAnnotation)) continue;
    for (const auto name : split(value, ',')) BERTH_TRY(add(name), "annotation " + key);
  }
  return names;
}

Result<std::vector<Chosen>> find_devices(const std::vector<std::string>& dirs, const std::vector<std::string>& names,
                                         const std::vector<std::string>& before, const DeviceWords& words) {
  std::vector<Chosen> chosen;
  if (names.empty()) return chosen;
  const auto words_for = [&words](const std::string& name) { return words ? words(name) : "CDI devices"; };
  if (dirs.empty()) {
    return fail(Code::kUnsupported, words_for(names.front()) + ": runtime.cdi_dirs is empty in Berth's configuration");
  }
  Files files;
  BERTH_TRY(files.read(dirs), "CDI devices");
  std::set<std::size_t> used;
  for (const auto& name : before) {
    if (const auto place = files.find(name)) used.insert(place->first);
  }
  for (const auto& name : names) {
    BERTH_ASSIGN(const auto place, files.find(name), words_for(name));
    const auto& file = files.file(place.first);
    const std::string from = (words ? words(name) + ": " : "") + "CDI file " + files.path(place.first);
    if (used.insert(place.first).second) chosen.push_back({from, file.edits});
    chosen.push_back({from, file.devices[place.second].edits});
  }
  return chosen;
}

Result<> apply_edits(const std::vector<Chosen>& chosen, bool shared_mounts, spec::Spec& spec) {
  for (const auto& [from, edits] : chosen) BERTH_TRY(apply_one(edits, shared_mounts, spec), from);
  return {};
}

}  // namespace berth::cri::cdi
