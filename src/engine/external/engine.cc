#include <sys/stat.h>

#include <cerrno>

#include "base/log.h"
#include "engine/external/container.h"
#include "engine/external/exec_cgroup.h"
#include "engine/external/external_engine.h"
#include "engine/external/mount_places.h"
#include "engine/process/systemd_unit.h"
#include "os/file.h"
#include "os/mount.h"

namespace berth::engine::external {
namespace {

class Engine final : public ExternalEngine {
 public:
  explicit Engine(Options options) : runtime_(std::make_shared<Runtime>(std::move(options))) {}

  Result<std::unique_ptr<Container>> create(CreateRequest request) override;
  Result<> clear(const std::string& id, const std::string& bundle, const std::string& cgroup_path) override;

 private:
  Result<std::shared_ptr<const os::CgroupLayout>> layout();
  Result<ExternalContainer::Parts> parts_of(const std::string& id, const std::string& bundle,
                                            const std::string& cgroup_path);
  Result<Process> create_in(CreateRequest& request, ExternalContainer::Parts& parts);

  std::shared_ptr<Runtime> runtime_;
  std::shared_ptr<const os::CgroupLayout> layout_;
  std::shared_ptr<process::OomLedger> oom_ = std::make_shared<process::OomLedger>();
};

Result<std::shared_ptr<const os::CgroupLayout>> Engine::layout() {
  if (layout_ == nullptr) {
    // Before any v2 hierarchy is hidden: what a runtime made there is still to be found.
    BERTH_ASSIGN(os::CgroupLayout found, os::find_cgroups(runtime_->options().cgroup_root), "cgroups");
    layout_ = std::make_shared<const os::CgroupLayout>(std::move(found));
  }
  return layout_;
}

Result<ExternalContainer::Parts> Engine::parts_of(const std::string& id, const std::string& bundle,
                                                  const std::string& cgroup_path) {
  ExternalContainer::Parts parts;
  BERTH_ASSIGN(parts.layout, layout(), "runtime");
  parts.cgroup_path = cgroup_path;
  if (runtime_->options().by_systemd() && !cgroup_path.empty()) {
    if (!cgroup_path.starts_with('/')) {
      BERTH_ASSIGN(parts.cgroup_path, process::scope_path(cgroup_path, id), "linux.cgroupsPath");
    }
    BERTH_ASSIGN(parts.cgroup, process::Cgroup::from_saved(*parts.layout, parts.cgroup_path, true), "cgroup");
    if (parts.layout->v2) parts.oom = oom_;
  } else if (!cgroup_path.empty()) {
    BERTH_ASSIGN(parts.cgroup, process::Cgroup::locate(*parts.layout, cgroup_path, id), "linux.cgroupsPath");
  }
  parts.id = id;
  parts.bundle = bundle;
  parts.runtime = runtime_;
  return parts;
}

Result<Process> Engine::create_in(CreateRequest& request, ExternalContainer::Parts& parts) {
  if (request.root_mount.valid()) {
    const std::string place = request.bundle + "/rootfs";
    if (::mkdir(place.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(errno, "mkdir " + place);
    BERTH_TRY(os::attach_tree_at(request.root_mount.get(), place), "root file system");
    parts.root_attached = true;
    request.spec.root.emplace(request.spec.root.value_or(spec::Root())).path = "rootfs";
  }
  BERTH_TRY(attach_mount_trees(request), "mounts");
  // A runtime that is older than the specification's minor version refuses it (crun before 1.9 takes nothing but 1.0),
  // a newer one takes every older; members that a runtime does not know are passed over either way.
  request.spec.oci_version = "1.0.2";
  // crun would put a cgroup of its own between the scope and the container, which others of these do not.
  if (runtime_->options().by_systemd()) request.spec.annotations["run.oci.systemd.subgroup"] = "";
  // As the caller has changed it: a terminal, the score of the out-of-memory killer.
  BERTH_TRY(os::write_file_atomic(request.bundle + "/config.json", spec::write_spec(request.spec)), "bundle");
  BERTH_TRY(os::make_dirs(runtime_->options().root, 0700), "state folder of the runtime");
  Launch wanted;
  wanted.command.words = {"create", "--bundle", request.bundle};
  if (request.no_pivot) wanted.command.words.emplace_back("--no-pivot");
  if (request.no_new_keyring) wanted.command.words.emplace_back("--no-new-keyring");
  wanted.command.words.push_back(request.id);
  wanted.command.bundle = request.bundle;
  wanted.command.stdio = request.stdio;
  wanted.command.extra_fds = request.extra_fds;
  wanted.pid_file = request.bundle + "/init.pid";
  wanted.terminal = request.spec.process && request.spec.process->terminal;
  return launch(*runtime_, std::move(wanted));
}

Result<std::unique_ptr<Container>> Engine::create(CreateRequest request) {
  const std::string cgroup_path = request.spec.linux ? request.spec.linux->cgroups_path : "";
  if (!runtime_->options().by_systemd() && !cgroup_path.starts_with('/')) {
    return fail(Code::kInvalid, "linux.cgroupsPath: a container of an external runtime needs an absolute one");
  }
  BERTH_ASSIGN(ExternalContainer::Parts parts, parts_of(request.id, request.bundle, cgroup_path), "create");
  // What a failed creation left is killed by the cgroup, so there must be nobody else in it.
  BERTH_ASSIGN(const auto others, parts.cgroup.pids(), "create");
  if (!others.empty()) return fail(Code::kExists, "cgroup " + cgroup_path + " has processes already");
  if (parts.oom != nullptr) parts.oom->add(*parts.layout, parts.cgroup_path);
  auto init = create_in(request, parts);
  if (init && request.spec.linux && request.spec.linux->resources) {
    // Old versions of crun tell it none, and a reload would lift them.
    if (auto told = tell_limits(parts, *request.spec.linux->resources); !told) init = fail(std::move(told).error());
  }
  if (init && request.on_process) {
    if (auto told = request.on_process(*init); !told) init = fail(std::move(told).error());
  }
  if (!init) {
    if (auto cleared = clear_container(parts); !cleared) {
      log_error("a container that could not be created leaves something",
                {{"container", request.id}, {"err", cleared.error().text()}});
    }
    return fail(std::move(init).error());
  }
  parts.init = std::move(*init);
  return std::make_unique<ExternalContainer>(std::move(parts));
}

Result<> Engine::clear(const std::string& id, const std::string& bundle, const std::string& cgroup_path) {
  BERTH_ASSIGN(const ExternalContainer::Parts parts, parts_of(id, bundle, cgroup_path), "container " + id);
  return clear_container(parts);
}

}  // namespace

std::unique_ptr<ExternalEngine> make_external_engine(Options options) {
  return std::make_unique<Engine>(std::move(options));
}

}  // namespace berth::engine::external
