#include <fcntl.h>
#include <google/protobuf/util/message_differencer.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "base/failpoint.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/strings.h"
#include "cri/cdi_devices.h"
#include "cri/hook_dirs.h"
#include "cri/service_impl.h"
#include "image/store.h"
#include "os/file.h"

namespace berth::cri {

namespace {

constexpr std::size_t kMaxName = 1024;
constexpr std::size_t kMaxProfile = 4U << 20;
constexpr int kMaxMounts = 4096;

Result<> check_container(const pb::CreateContainerRequest& request) {
  const auto& config = request.config();
  if (config.metadata().name().empty() || config.metadata().name().size() > kMaxName) {
    return fail(Code::kInvalid, "config.metadata.name is empty or longer than 1024 bytes");
  }
  if (config.image().image().empty()) return fail(Code::kInvalid, "config.image is empty");
  if (config.mounts_size() > kMaxMounts) return fail(Code::kInvalid, "mounts: more than 4096");
  const std::string& log = config.log_path();
  for (const auto part : split(log, '/')) {
    if (part == "..") return fail(Code::kInvalid, "log_path \"" + log + "\" leaves the log directory");
  }
  if (log.find('\0') != std::string::npos) return fail(Code::kInvalid, "log_path holds a NUL");
  return {};
}

std::string access_of(const std::string& permissions) {
  return permissions.empty() ? "rwm" : permissions;
}

Result<std::vector<GrantedDevice>> granted_devices(const pb::ContainerConfig& config) {
  std::vector<GrantedDevice> all;
  for (const auto& asked : config.devices()) {
    if (asked.permissions().find_first_not_of("rwm") != std::string::npos) {
      return fail(Code::kInvalid, "device " + asked.host_path() + ": permissions \"" + asked.permissions() + "\"");
    }
    if (!asked.host_path().starts_with('/')) return fail(Code::kInvalid, "device path \"" + asked.host_path() + "\"");
    const std::string& inside = asked.container_path().empty() ? asked.host_path() : asked.container_path();
    BERTH_ASSIGN(auto devices, devices_at(asked.host_path(), clean_path(inside)), "devices");
    for (auto& device : devices) all.push_back({std::move(device), access_of(asked.permissions())});
  }
  return all;
}

UserRequest user_request(const pb::LinuxContainerSecurityContext& security, const std::string& image_user) {
  UserRequest request;
  if (security.has_run_as_user()) request.uid = security.run_as_user().value();
  request.username = security.run_as_username();
  if (security.has_run_as_group()) request.gid = security.run_as_group().value();
  request.image_user = image_user;
  request.supplemental = {security.supplemental_groups().begin(), security.supplemental_groups().end()};
  request.strict_groups = security.supplemental_groups_policy() == pb::Strict;
  return request;
}

/// Whom the files of a pod's containers belong to.
std::optional<image::RootfsIds> rootfs_ids(const SandboxRecord& sandbox) {
  const auto ids = ids_of(sandbox.config);
  if (!ids) return std::nullopt;
  return image::RootfsIds{ids->uids.host_id, ids->uids.size, ids->gids.host_id, ids->gids.size};
}

}  // namespace

Result<image::ImageInfo> find_image(const image::Store& store, const pb::ImageSpec& spec) {
  if (auto found = store.find(spec.image())) return std::move(*found);
  if (!spec.image_ref().empty()) {
    if (auto found = store.find(spec.image_ref())) return std::move(*found);
  }
  return fail(Code::kNotFound, "image \"" + spec.image() + "\" is not here; pull it first");
}

Result<pb::CreateContainerResponse> ServiceImpl::create_container(const Call& call,
                                                                  const pb::CreateContainerRequest& request) {
  BERTH_TRY(check_container(request), "CreateContainer");
  BERTH_ASSIGN(const auto sandbox, shown_sandbox(request.pod_sandbox_id()), "CreateContainer");
  const auto& metadata = request.config().metadata();
  const std::string sandbox_id = sandbox->id;
  const std::string key = "create " + sandbox_id + " " + std::to_string(metadata.attempt()) + " " + metadata.name();
  const std::string title = "CreateContainer " + metadata.name() + " in " + sandbox_id.substr(0, 13);
  auto id = operations_.run(key, title, call, [this, request, sandbox_id](Operation& operation) -> Result<std::string> {
    operation.about(sandbox_id);
    const auto pod = make_pod(sandbox_id);
    const OperationLock::Guard guard(pod->turn, operation);
    return make_container(operation, request, sandbox_id);
  });
  crashpoint("create.answer");
  if (!id) return fail(std::move(id).error());
  pb::CreateContainerResponse answer;
  answer.set_container_id(*id);
  return answer;
}

Result<std::string> ServiceImpl::make_container(Operation& operation, const pb::CreateContainerRequest& request,
                                                const std::string& sandbox_id, const RestoreSource* source) {
  const auto& config = request.config();
  const std::string name = config.metadata().name();
  for (const auto& other : registry_->containers_of(sandbox_id)) {
    const auto& theirs = other->config.metadata();
    const bool lives = other->phase == ContainerPhase::kCreated || other->phase == ContainerPhase::kStarting ||
                       other->phase == ContainerPhase::kRunning;
    if (!lives || theirs.name() != name || theirs.attempt() != config.metadata().attempt()) continue;
    if (google::protobuf::util::MessageDifferencer::Equals(other->config, config)) return other->id;
    return fail(Code::kExists, "container " + name + " (attempt " + std::to_string(theirs.attempt()) +
                                   ") is there already, with another configuration: " + other->id.substr(0, 13));
  }
  const auto sandbox = registry_->sandbox(sandbox_id);
  if (!sandbox || sandbox->state != (source == nullptr ? SandboxState::kReady : SandboxState::kRestoring)) {
    const std::string why = sandbox ? sandbox->message : "it was removed";
    return fail(Code::kPrecondition,
                "sandbox " + sandbox_id.substr(0, 13) + " is not ready" + (why.empty() ? "" : ": " + why));
  }
  ContainerRecord record;
  record.id = new_id();
  const auto passage = plugins_.making(record.id);
  Rollback undo;
  record.sandbox_id = sandbox_id;
  operation.about(sandbox_id, record.id);
  record.created_at_ns = wall_now_ns();
  record.config = config;
  record.resources = config.linux().resources();
  record.cgroups_path = container_cgroup(sandbox->cgroup_driver(), sandbox->cgroup_parent, record.id);
  {
    const Stage stage(operation, "note the intent", record.id);
    BERTH_TRY(registry_->add(record), "note the intent");
    undo.add("record of container " + record.id, [this, id = record.id] { return registry_->erase_container(id); });
    BERTH_TRY(failpoint("create.recorded"), "CreateContainer");
  }
  BERTH_TRY(fill_container(operation, *sandbox, passage, record, undo, source), "create container " + name);
  // What is restored is shown with its pod.
  if (source == nullptr) record.phase = ContainerPhase::kCreated;
  const Stage stage(operation, "store the record", record.id);
  BERTH_TRY(registry_->add(record), "create container " + name);
  undo.commit();
  crashpoint("create.stored");
  if (source == nullptr) plugins_.created(record);
  return record.id;
}

/// Root file system, folder, specification, and the container in the shim.
Result<> ServiceImpl::fill_container(Operation& operation, const SandboxRecord& sandbox,
                                     const Plugins::Passage& passage, ContainerRecord& record, Rollback& undo,
                                     const RestoreSource* source) {
  BERTH_ASSIGN(const auto image, find_image(*options_.images, record.config.image()), "image");
  record.image_id = image.id;
  record.image_ref = image.repo_digests.empty() ? image.id : image.repo_digests.front();
  const std::string dir = dir_of(record);
  undo.add("folder of container " + record.id, [dir] { return os::remove_tree(dir); });
  {
    const Stage stage(operation, "make the container's folder", dir);
    BERTH_TRY(os::make_dirs(dir + "/rootfs", 0711), "bundle");
    BERTH_TRY(failpoint("create.folder"), "bundle");
  }
  // Kept to the end: the shim mounts them when it creates the container.
  BERTH_ASSIGN(const auto volumes, prepare_volumes(operation, record, undo), "image volumes");
  BERTH_ASSIGN(auto built, container_spec(operation, sandbox, record, image, volumes), "specification");
  for (const auto& warning : built.warnings) log_warn(warning, {{"container", record.id}});
  if (plugins_.on()) {
    undo.add("NRI plugins of container " + record.id, [this, &sandbox, record]() -> Result<> {
      plugins_.undo_create(sandbox, record);
      return {};
    });
  }
  BERTH_TRY(extend_spec(operation, sandbox, passage, record, built.spec), "specification");
  record.process_json = spec::write_process(*built.spec.process);
  {
    const Stage stage(operation, "write the specification", dir);
    BERTH_TRY(write_new_file(dir + "/config.json", spec::write_spec(built.spec)), "bundle");
    BERTH_TRY(failpoint("create.spec"), "bundle");
  }
  BERTH_ASSIGN(const auto stdio, make_stdio(operation, sandbox, record), "logs");
  image::RootfsMount rootfs;
  {
    const Stage stage(operation, "prepare the root file system", image.id);
    undo.add("root file system of container " + record.id,
             [this, id = record.id] { return options_.images->remove_rootfs(id); });
    BERTH_ASSIGN(rootfs, options_.images->prepare_rootfs(record.id, image.id, rootfs_ids(sandbox)), "root file system");
  }
  if (source != nullptr) BERTH_TRY(restore_layer(operation, *source, rootfs), "root file system");
  return create_in_shim(operation, record, rootfs, stdio, undo, source);
}

Result<> ServiceImpl::create_in_shim(Operation& operation, ContainerRecord& record, const image::RootfsMount& rootfs,
                                     const ShimStdio& stdio, Rollback& undo, const RestoreSource* source) {
  const std::string dir = dir_of(record);
  BERTH_ASSIGN(const auto link, link_of(record.sandbox_id), "shim");
  const Stage stage(operation, source == nullptr ? "create in the shim" : "restore in the shim", record.id);
  BERTH_TRY(failpoint("create.shim"), "CreateContainer");
  // Before the answer it may be there already: a lost answer is undone too.
  undo.add("container " + record.id + " in the shim", [link, id = record.id] { return link->purge(id); });
  auto pid = source == nullptr ? link->create(record.id, dir, rootfs, stdio)
                               : restore_in_shim(*link, record.id, dir, rootfs, stdio, *source);
  crashpoint("create.made");
  if (!pid && source == nullptr && pid.error().code() == Code::kInvalid) {
    // Not the request's fault but the image's: no such program, not executable. It becomes the end of the container at
    // its start, where a kubelet shows it beside the container and backs off.
    record.create_error = pid.error().text();
    return {};
  }
  if (!pid) return fail(std::move(pid).error().in("runtime"));
  record.pid = *pid;
  return {};
}

/// What the node adds to what the request asks for: OCI hooks from the hooks folders, then the NRI plugins' changes.
Result<> ServiceImpl::extend_spec(Operation& operation, const SandboxRecord& sandbox, const Plugins::Passage& passage,
                                  ContainerRecord& record, spec::Spec& spec) {
  HookQuestion question{.command = spec.process->args.front(), .has_bind_mounts = record.config.mounts_size() > 0};
  for (const auto* annotations : {&sandbox.config.annotations(), &record.config.annotations()}) {
    for (const auto& [key, value] : *annotations) question.annotations[key] = value;
  }
  {
    const Stage stage(operation, "read the OCI hooks", join(options_.hooks_dirs, ", "));
    BERTH_TRY(add_hooks_of_dirs(options_.hooks_dirs, question, spec), "OCI hooks");
  }
  return plugins_.create(operation, passage, sandbox, record, spec);
}

Result<ShimStdio> ServiceImpl::make_stdio(Operation& operation, const SandboxRecord& sandbox, ContainerRecord& record) {
  ShimStdio stdio;
  stdio.terminal = record.config.tty();
  if (sandbox.config.log_directory().empty() || record.config.log_path().empty()) {
    // Nobody keeps it, but Attach sees it.
    stdio.out = "watched://";
    if (!stdio.terminal) stdio.err = stdio.out;
  } else {
    record.log_path = sandbox.config.log_directory() + "/" + record.config.log_path();
    const std::string folder = record.log_path.substr(0, record.log_path.rfind('/'));
    const Stage stage(operation, "make the log folder", folder);
    BERTH_TRY(os::make_dirs(folder, 0755), "log folder");
    BERTH_TRY(failpoint("create.log-folder"), "log folder");
    stdio.out = "cri-log://" + record.log_path;
    if (!stdio.terminal) stdio.err = stdio.out;
  }
  if (record.config.stdin()) {
    stdio.in = dir_of(record) + "/stdin";
    if (::mkfifo(stdio.in.c_str(), 0600) != 0 && errno != EEXIST) return fail_errno(errno, "make FIFO " + stdio.in);
  }
  return stdio;
}

/// Looks up all that the specification needs of image and host.
Result<SpecOutput> ServiceImpl::container_spec(Operation& operation, const SandboxRecord& sandbox,
                                               ContainerRecord& record, const image::ImageInfo& image,
                                               ImageVolumes volumes) {
  const auto& config = record.config;
  const auto& security = config.linux().security_context();
  BERTH_TRY(look_at_volumes(operation, config), "config");
  SpecInput input{.pod = sandbox.config, .container = config, .image = image.config, .host = host_};
  input.facts = {.sandbox_id = sandbox.id,
                 .pod_dir = dir_of(sandbox.id),
                 .cgroup_parent = sandbox.cgroup_parent,
                 .cgroup_driver = sandbox.cgroup_driver(),
                 .shim_pid = sandbox.shim_pid,
                 .host_network = sandbox.host_network,
                 .init_pid = sandbox.init_pid,
                 .ids = ids_of(sandbox.config)};
  input.container_id = record.id;
  input.image_volumes = std::move(volumes);
  {
    const Stage stage(operation, "look up the user in the image", image.id);
    BERTH_ASSIGN(const auto folders, options_.images->layer_dirs(image.id), "image layers");
    const auto& layers = folders.paths;
    BERTH_ASSIGN(const auto passwd, read_image_file(layers, "etc/passwd", kMaxAccountFile), "image");
    BERTH_ASSIGN(const auto group, read_image_file(layers, "etc/group", kMaxAccountFile), "image");
    BERTH_ASSIGN(input.user, resolve_user(user_request(security, image.config.config.user), passwd, group), "user");
  }
  record.user = input.user.ids;
  const Stage stage(operation, "build the specification", record.id);
  BERTH_ASSIGN(input.devices, granted_devices(config), "config");
  if (security.privileged()) {
    BERTH_ASSIGN(input.host_devices, host_devices(), "privileged");
  }
  BERTH_ASSIGN(const auto choice, seccomp_choice(security), "security_context");
  if (choice.type == pb::SecurityProfile::Localhost) {
    BERTH_ASSIGN(const auto text, os::read_file(choice.localhost_path, kMaxProfile), "seccomp profile");
    BERTH_ASSIGN(input.localhost_seccomp, parse_seccomp_profile(text), choice.localhost_path);
  }
  if (security.namespace_options().pid() == pb::TARGET) {
    const auto target = registry_->find_container(security.namespace_options().target_id());
    if (!target || (*target)->sandbox_id != sandbox.id || (*target)->phase != ContainerPhase::kRunning) {
      return fail(Code::kPrecondition, "namespace_options.target_id names no running container of the pod");
    }
    input.target_pid = (*target)->pid;
  }
  BERTH_ASSIGN(record.stop_signal, stop_signal(config, image.config), "stop signal");
  BERTH_ASSIGN(auto built, build_spec(input), "request");
  BERTH_ASSIGN(const auto devices, cdi::requested_devices(config), "request");
  if (devices.empty()) return built;
  const Stage reading(operation, "read the CDI files", devices.front());
  BERTH_ASSIGN(const auto edits, cdi::find_devices(options_.cdi_dirs, devices), "request");
  BERTH_TRY(cdi::apply_edits(edits, host_.shared_mounts, built.spec), "request");
  return built;
}

Result<int> ServiceImpl::stop_signal(const pb::ContainerConfig& config, const spec::ImageConfig& image) {
  if (const auto asked = signal_number(config.stop_signal())) return *asked;
  const std::string& word = image.config.stop_signal;
  if (word.empty()) return SIGTERM;
  if (const auto of_image = signal_number(word)) return *of_image;
  return fail(Code::kInvalid, "the image's StopSignal \"" + word + "\" is no signal");
}

}  // namespace berth::cri
