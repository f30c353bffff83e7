#include "engine/process/checkpoint.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "base/log.h"
#include "base/strings.h"
#include "engine/process/cgroup.h"
#include "engine/process/criu.h"
#include "engine/process/mount_plan.h"
#include "os/file.h"
#include "os/root_path.h"
#include "spec/json_reader.h"
#include "spec/json_text.h"

namespace berth::engine::process {

namespace {

constexpr const char* kDescriptors = "/descriptors.json";
constexpr std::size_t kStreams = 3;
constexpr mode_t kPrivateMode = 0700;
// criu of that version is the first that can.
constexpr int kFirstCriu = 30000;
constexpr int kExternalNetwork = 31100;
constexpr int kFreezesV2 = 31400;
constexpr int kExternalPid = 31500;

/// One dump: collects what criu has to know, lets it work, and sets the container going again if that fails.
class Dump {
 public:
  Dump(const CheckpointSource& source, const CheckpointOptions& options) : source_(source), options_(options) {}

  Result<> run();

 private:
  Result<> check();
  Result<> find_features();
  Result<> add_external_namespaces();
  Result<> add_external_mounts();
  Result<> add_mount(int root_fd, const std::string& target);
  Result<> add_masks(int root_fd, bool own_devices);
  Result<> add_freezer();
  Result<> add_parent();
  Result<> dump();
  Result<> on_notice(const CriuNotice& notice);

  const CheckpointSource& source_;
  const CheckpointOptions& options_;
  std::string program_;
  int version_ = 0;
  CriuSettings settings_;
};

Result<> Dump::check() {
  const auto* const config = source_.spec.linux ? &*source_.spec.linux : nullptr;
  if (config == nullptr || config->find_namespace(spec::NamespaceType::kMount) == nullptr) {
    return fail(Code::kUnsupported, "a container without a mount namespace of its own cannot be checkpointed");
  }
  if (options_.criu.image_path.empty()) return fail(Code::kInvalid, "no folder for the images");
  if (options_.status_fd < 0) return {};
  const int flags = ::fcntl(options_.status_fd, F_GETFL);
  if (flags < 0) return fail_errno(errno, "--status-fd " + std::to_string(options_.status_fd));
  if ((flags & O_ACCMODE) == O_RDONLY) {
    return fail(Code::kInvalid, "--status-fd " + std::to_string(options_.status_fd) + " is not open for writing");
  }
  return {};
}

Result<> Dump::find_features() {
  BERTH_ASSIGN(program_, find_criu(options_.criu.program), "criu");
  auto version = criu_version(program_);
  if (!version) {
    // It gives up before it says anything: on kernels that it does not know.
    return fail(std::move(version).error().in("criu does not work on this kernel").as(Code::kUnsupported));
  }
  version_ = *version;
  if (version_ < kFirstCriu) {
    return fail(Code::kUnsupported, program_ + " of version " + std::to_string(version_) + " is too old");
  }
  const CriuFeatures wanted{options_.pre_dump, options_.criu.lazy_pages};
  if (!wanted.mem_track && !wanted.lazy_pages) return {};
  BERTH_ASSIGN(const CriuFeatures found, criu_features(program_, wanted), "criu");
  if (wanted.mem_track && !found.mem_track) {
    return fail(Code::kUnsupported, "--pre-dump: this kernel does not track changed memory");
  }
  if (wanted.lazy_pages && !found.lazy_pages) {
    return fail(Code::kUnsupported, "--lazy-pages: this kernel or criu has no userfaultfd that can");
  }
  return {};
}

Result<> Dump::add_external_namespaces() {
  for (const auto& entry : source_.spec.linux->namespaces) {
    const bool network = entry.type == spec::NamespaceType::kNetwork;
    if (entry.path.empty() || (!network && entry.type != spec::NamespaceType::kPid)) continue;
    if (version_ < (network ? kExternalNetwork : kExternalPid)) {
      return fail(Code::kUnsupported, program_ + " is too old for a " + std::string(spec::namespace_name(entry.type)) +
                                          " namespace by path");
    }
    // By init's own file: the path of the configuration may be gone or lead elsewhere by now.
    const std::string word = network ? "net" : "pid";
    const std::string path = "/proc/" + std::to_string(source_.pid) + "/ns/" + word;
    struct stat st{};
    if (::stat(path.c_str(), &st) != 0) return fail_errno(errno, "stat " + path);
    if (is_own_namespace(path, word)) continue;
    settings_.external.push_back(word + "[" + std::to_string(st.st_ino) + "]:" + external_namespace_key(entry.type));
  }
  return {};
}

/// The mount at `target` is somebody else's: criu only remembers its name, which is its place.
Result<> Dump::add_mount(int root_fd, const std::string& target) {
  const auto found = os::open_in_root(root_fd, target);
  if (!found && found.error().errno_value() == ENOENT) return {};
  if (!found) return fail(found.error().in(target));
  // Where links lead, as mountinfo has it: the container's root is that of its mount namespace.
  BERTH_ASSIGN(const std::string place, fd_path(found->get()), target);
  settings_.ext_mounts.emplace_back(place, place);
  return {};
}

/// A mask is mostly a copy of the container's own null device, which comes with the container's /dev. One of the host's
/// is external, by runc's name.
Result<> Dump::add_masks(int root_fd, bool own_devices) {
  struct stat null{};
  const auto device = os::open_in_root(root_fd, "/dev/null");
  const bool known = own_devices && device && ::fstat(device->get(), &null) == 0;
  for (const auto& path : source_.spec.linux->masked_paths) {
    const auto found = os::open_in_root(root_fd, path);
    struct stat st{};
    if (!found || ::fstat(found->get(), &st) != 0 || S_ISDIR(st.st_mode)) continue;
    if (known && st.st_dev == null.st_dev && st.st_ino == null.st_ino) continue;
    BERTH_ASSIGN(const std::string place, fd_path(found->get()), "linux.maskedPaths");
    settings_.ext_mounts.emplace_back(place, "/dev/null");
  }
  return {};
}

Result<> Dump::add_external_mounts() {
  const std::string root_name = "/proc/" + std::to_string(source_.pid) + "/root";
  BERTH_ASSIGN(const UniqueFd root, os::open_file(root_name, O_PATH | O_DIRECTORY), "root of the container");
  BERTH_ASSIGN(const MountPlan plan, plan_mounts(source_.spec, source_.bundle), "config");
  BERTH_ASSIGN(const auto shown, cgroup_bind_mounts(source_.spec, source_.cgroup), "cgroup");
  for (const auto& mount : plan.mounts) {
    if (mount.kind == MountKind::kBind) BERTH_TRY(add_mount(root.get(), mount.target), "mounts");
    if (mount.kind != MountKind::kCgroup) continue;
    for (const auto& [name, source] : shown) {
      BERTH_TRY(add_mount(root.get(), mount.target + name), "mounts");
    }
  }
  BERTH_TRY(add_masks(root.get(), plan.make_devices), "linux.maskedPaths");
  for (const auto& device : source_.spec.linux->devices) {
    settings_.ext_mounts.emplace_back(device.path, device.path);
  }
  return {};
}

Result<> Dump::add_freezer() {
  const Cgroup& cgroup = source_.cgroup;
  if (cgroup.empty() || (cgroup.v2() && version_ < kFreezesV2)) return {};
  for (std::size_t i = 0; i < cgroup.paths().size(); ++i) {
    const auto& hierarchy = cgroup.layout()->hierarchies[i];
    if (!cgroup.v2() && &hierarchy != cgroup.layout()->find("freezer")) continue;
    BERTH_ASSIGN(const std::string top, fd_path(hierarchy.root.get()), "freezer");
    settings_.freeze_cgroup = top + cgroup.paths()[i];
  }
  return {};
}

Result<> Dump::add_parent() {
  if (options_.parent_path.empty()) return {};
  if (options_.parent_path.starts_with('/')) {
    return fail(Code::kInvalid, "--parent-path must be relative to --image-path");
  }
  const std::string path = options_.criu.image_path + "/" + options_.parent_path;
  struct stat st{};
  if (::stat(path.c_str(), &st) != 0) return fail(errno_error(errno, path).in("--parent-path"));
  if (!S_ISDIR(st.st_mode)) return fail(Code::kInvalid, "--parent-path: " + path + " is no folder");
  settings_.parent_img = options_.parent_path;
  settings_.track_mem = true;
  return {};
}

Result<> Dump::on_notice(const CriuNotice& notice) {
  if (notice.script != "status-ready" || options_.status_fd < 0) return {};
  const auto told = os::write_all(options_.status_fd, std::string_view("\0", 1));
  if (!told) log_warn("nobody is told that the pages are ready", {{"err", told.error().text()}});
  // Whoever waits for more than the byte waits for the end.
  ::close(options_.status_fd);
  return {};
}

Result<> Dump::dump() {
  BERTH_ASSIGN(const CriuFolders folders, open_criu_folders(options_.criu, "dump.log", settings_), "checkpoint");
  BERTH_TRY(add_parent(), "checkpoint");
  if (!options_.pre_dump) {
    BERTH_TRY(add_external_mounts(), "checkpoint");
    BERTH_TRY(os::write_file_atomic(options_.criu.image_path + kDescriptors, write_descriptors(source_.stdio), 0600),
              "checkpoint");
  }
  CriuRun run;
  run.request.type = options_.pre_dump ? CriuRequestType::kPreDump : CriuRequestType::kDump;
  run.request.settings = settings_;
  run.log_path = folders.log_path;
  run.start = plain_criu(program_);
  run.on_notice = [this](CriuNotice& notice) { return on_notice(notice); };
  BERTH_TRY(run_criu(std::move(run)), options_.pre_dump ? "pre-dump" : "checkpoint");
  return {};
}

Result<> Dump::run() {
  BERTH_TRY(check(), "checkpoint");
  BERTH_TRY(find_features(), "checkpoint");
  settings_.pid = source_.pid;
  settings_.root = in_bundle(source_.spec.root->path, source_.bundle);
  settings_.leave_running = options_.leave_running;
  settings_.tcp_skip_in_flight = options_.tcp_skip_in_flight;
  settings_.link_remap = options_.link_remap;
  settings_.page_server_address = options_.page_server_address;
  settings_.page_server_port = options_.page_server_port;
  set_common(options_.criu, source_.spec, settings_);
  BERTH_TRY(add_external_namespaces(), "checkpoint");
  BERTH_TRY(add_freezer(), "checkpoint");
  const bool was_frozen = source_.cgroup.empty() || source_.cgroup.frozen().value_or(true);
  auto done = dump();
  // A criu that was killed leaves the container as it had stopped it.
  if (!done && !was_frozen && source_.cgroup.frozen().value_or(false)) {
    if (const auto thawed = source_.cgroup.freeze(false); !thawed) {
      log_warn("the container stays stopped", {{"err", thawed.error().text()}});
    }
  }
  return done;
}

}  // namespace

bool is_own_namespace(const std::string& path, const std::string& word) {
  struct stat own{};
  struct stat theirs{};
  if (::stat(("/proc/self/ns/" + word).c_str(), &own) != 0 || ::stat(path.c_str(), &theirs) != 0) return false;
  return own.st_ino == theirs.st_ino && own.st_dev == theirs.st_dev;
}

std::string write_descriptors(const std::vector<std::string>& stdio) {
  spec::JsonWriter json;
  json.begin_array();
  for (std::size_t i = 0; i < kStreams; ++i) json.string(i < stdio.size() ? stdio[i] : "/dev/null");
  json.end_array();
  return json.take();
}

Result<std::vector<std::string>> read_descriptors(std::string_view text) {
  std::vector<std::string> stdio;
  spec::JsonReader reader(text, {});
  const bool read = reader.array([&] {
    if (stdio.size() == kStreams) return reader.fail_here("more than three streams");
    return reader.string(stdio.emplace_back());
  });
  if (!read || !reader.finish()) return fail(reader.error().in("descriptors.json").as(Code::kCorrupt));
  return stdio;
}

Result<CriuFolders> open_criu_folders(const CriuOptions& options, const std::string& log_file, CriuSettings& settings) {
  CriuFolders folders;
  BERTH_TRY(os::make_dirs(options.image_path, kPrivateMode), "--image-path");
  BERTH_ASSIGN(folders.images, os::open_file(options.image_path, O_RDONLY | O_DIRECTORY), "--image-path");
  settings.images_dir_fd = folders.images.get();
  const std::string& logs = options.work_path.empty() ? options.image_path : options.work_path;
  if (!options.work_path.empty()) {
    BERTH_TRY(os::make_dirs(options.work_path, kPrivateMode), "--work-path");
    BERTH_ASSIGN(folders.work, os::open_file(options.work_path, O_RDONLY | O_DIRECTORY), "--work-path");
    settings.work_dir_fd = folders.work.get();
  }
  settings.log_file = log_file;
  folders.log_path = logs + "/" + log_file;
  // What an earlier run says there is no reason of this one's.
  BERTH_TRY(os::remove_file(folders.log_path), "log of criu");
  return folders;
}

void set_common(const CriuOptions& options, const spec::Spec& spec, CriuSettings& settings) {
  settings.tcp_established = options.tcp_established;
  settings.ext_unix_sk = options.ext_unix_sk;
  settings.shell_job = options.shell_job;
  settings.file_locks = options.file_locks;
  settings.auto_dedup = options.auto_dedup;
  settings.lazy_pages = options.lazy_pages;
  settings.cgroups_mode = static_cast<int>(options.cgroups);
  settings.orphan_pts_master = true;
  // The addresses and devices of a network are their maker's, who has to make them again.
  settings.empty_ns = CLONE_NEWNET;
  // What an administrator wants of criu, whichever runtime calls it: runc's places. An absent file says nothing.
  const auto own = spec.annotations.find("org.criu.config");
  settings.config_file = own != spec.annotations.end() ? own->second : "/etc/criu/runc.conf";
}

std::string external_namespace_key(spec::NamespaceType type) {
  return type == spec::NamespaceType::kNetwork ? "extRootNetNS" : "extRootPidNS";
}

Result<std::string> fd_path(int fd) {
  std::array<char, PATH_MAX> target;
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t n = ::readlink(link.c_str(), target.data(), target.size());
  if (n < 0) return fail_errno(errno, "readlink " + link);
  if (static_cast<std::size_t>(n) == target.size()) return fail(Code::kExhausted, "the path is too long", ENAMETOOLONG);
  return std::string(target.data(), static_cast<std::size_t>(n));
}

Result<std::vector<CriuPair>> cgroup_bind_mounts(const spec::Spec& spec, const Cgroup& cgroup) {
  std::vector<CriuPair> shown;
  // In a cgroup namespace a v2 mount is one of its own.
  const bool own = cgroup.v2() && spec.linux->find_namespace(spec::NamespaceType::kCgroup) != nullptr;
  for (std::size_t i = 0; !own && i < cgroup.paths().size(); ++i) {
    const auto& hierarchy = cgroup.layout()->hierarchies[i];
    if (cgroup.paths()[i].empty()) continue;
    BERTH_ASSIGN(const std::string top, fd_path(hierarchy.root.get()), "cgroup");
    shown.emplace_back(hierarchy.name.empty() ? "" : "/" + hierarchy.name, top + cgroup.paths()[i]);
  }
  return shown;
}

Result<> write_checkpoint(const CheckpointSource& source, const CheckpointOptions& options) {
  return Dump(source, options).run();
}

}  // namespace berth::engine::process
