#include <sys/stat.h>

#include <cerrno>

#include "base/log.h"
#include "containerd/runtime/task/v2/shim.pb.h"
#include "containerd/types/runc/options/oci.pb.h"
#include "engine/external/mount_places.h"
#include "engine/process/systemd_unit.h"
#include "os/file.h"
#include "os/mount.h"
#include "shim/foreign/container.h"
#include "shim/foreign/foreign_engine.h"

namespace berth::shim::foreign {
namespace {

constexpr std::chrono::milliseconds kCreateLimit{30'000};

class Engine final : public ForeignEngine {
 public:
  explicit Engine(Options options) : options_(std::move(options)) {
    program_options_ = {options_.binary, options_.folder, options_.sandbox_id};
  }

  Result<> attach(event::Loop& loop, Ended ended) override;
  void shut_down() override;
  Result<std::unique_ptr<engine::Container>> create(engine::CreateRequest request) override;
  Result<> clear_program() override { return Program::clear(program_options_); }
  Result<> clear(const std::string& id, const std::string& bundle, const std::string& cgroup_path) override;

 private:
  Result<std::shared_ptr<const os::CgroupLayout>> layout();
  Result<ForeignContainer::Parts> parts_of(const std::string& id, const std::string& bundle,
                                           const std::string& cgroup_path);
  Result<std::shared_ptr<Link>> link();
  Result<> write_bundle(engine::CreateRequest& request, ForeignContainer::Parts& parts);
  Result<> create_in(engine::CreateRequest& request, ForeignContainer::Parts& parts);
  void program_ended(const Link* link, const Error& reason);
  void kill_program(const Link* link);

  Options options_;
  ProgramOptions program_options_;
  event::Loop* loop_ = nullptr;
  std::shared_ptr<Processes> processes_;
  std::unique_ptr<Program> program_;
  std::shared_ptr<engine::external::ExecWait> exec_wait_ = std::make_shared<engine::external::ExecWait>();
  std::shared_ptr<const os::CgroupLayout> layout_;
  std::shared_ptr<engine::process::OomLedger> oom_ = std::make_shared<engine::process::OomLedger>();
};

Result<> Engine::attach(event::Loop& loop, Ended ended) {
  loop_ = &loop;
  processes_ = std::make_shared<Processes>(loop, std::move(ended), [this](const Link* link) { kill_program(link); });
  return {};
}

void Engine::shut_down() {
  if (program_ != nullptr) program_->shut_down();
  program_.reset();
  processes_.reset();
  loop_ = nullptr;
}

Result<std::shared_ptr<const os::CgroupLayout>> Engine::layout() {
  if (layout_ == nullptr) {
    BERTH_ASSIGN(os::CgroupLayout found, os::find_cgroups(options_.cgroup_root), "cgroups");
    layout_ = std::make_shared<const os::CgroupLayout>(std::move(found));
  }
  return layout_;
}

Result<ForeignContainer::Parts> Engine::parts_of(const std::string& id, const std::string& bundle,
                                                 const std::string& cgroup_path) {
  ForeignContainer::Parts parts;
  BERTH_ASSIGN(parts.layout, layout(), "shim");
  parts.cgroup_path = cgroup_path;
  if (options_.by_systemd() && !cgroup_path.empty()) {
    if (!cgroup_path.starts_with('/')) {
      BERTH_ASSIGN(parts.cgroup_path, engine::process::scope_path(cgroup_path, id), "linux.cgroupsPath");
    }
    BERTH_ASSIGN(parts.cgroup, engine::process::Cgroup::from_saved(*parts.layout, parts.cgroup_path, true), "cgroup");
    if (parts.layout->v2) parts.oom = oom_;
  } else if (!cgroup_path.empty()) {
    BERTH_ASSIGN(parts.cgroup, engine::process::Cgroup::locate(*parts.layout, cgroup_path, id), "linux.cgroupsPath");
  }
  parts.id = id;
  parts.bundle = bundle;
  parts.program = program_options_;
  parts.scope_program = options_.scope_program;
  parts.processes = processes_;
  parts.exec_wait = exec_wait_;
  return parts;
}

Result<std::shared_ptr<Link>> Engine::link() {
  if (loop_ == nullptr) return fail(Code::kPrecondition, "the engine is not attached to a loop");
  if (program_ != nullptr && program_->link()->alive()) return program_->link();
  if (program_ != nullptr) {
    // That it has ended may be on its way through the loop; a program that is replaced tells nothing any more.
    program_ended(program_->link().get(), Error(Code::kUnavailable, "found dead"));
    program_.reset();
  }
  // Which connection has ended is known by the time that it ends.
  const auto which = std::make_shared<const Link*>(nullptr);
  BERTH_ASSIGN(
      program_,
      Program::start(*loop_, program_options_, [this, which](const Error& reason) { program_ended(*which, reason); }),
      "shim");
  *which = program_->link().get();
  return program_->link();
}

void Engine::kill_program(const Link* link) {
  if (program_ == nullptr || program_->link().get() != link || !link->alive()) return;
  log_error("a shim does not answer: it is killed", {{"shim", options_.binary}, {"sandbox", options_.sandbox_id}});
  program_->kill();
}

// Without their shim nothing can be done with containers any more but to end them.
void Engine::program_ended(const Link* link, const Error& reason) {
  log_error("a shim has ended: its containers are killed",
            {{"shim", options_.binary}, {"sandbox", options_.sandbox_id}, {"err", reason.text()}});
  if (program_ != nullptr && program_->link().get() == link) program_->kill();
  processes_->abandon(link);
}

Result<> Engine::write_bundle(engine::CreateRequest& request, ForeignContainer::Parts& parts) {
  if (request.root_mount.valid()) {
    const std::string place = request.bundle + "/rootfs";
    if (::mkdir(place.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(errno, "mkdir " + place);
    BERTH_TRY(os::attach_tree_at(request.root_mount.get(), place), "root file system");
    parts.root_attached = true;
    request.spec.root.emplace(request.spec.root.value_or(spec::Root())).path = "rootfs";
  }
  BERTH_TRY(engine::external::attach_mount_trees(request), "mounts");
  // As for a runtime by its command line: old ones refuse what is newer than themselves.
  request.spec.oci_version = "1.0.2";
  if (options_.by_systemd()) request.spec.annotations["run.oci.systemd.subgroup"] = "";  // as there
  return os::write_file_atomic(request.bundle + "/config.json", spec::write_spec(request.spec));
}

Result<> Engine::create_in(engine::CreateRequest& request, ForeignContainer::Parts& parts) {
  BERTH_TRY(write_bundle(request, parts), "bundle");
  BERTH_ASSIGN(parts.link, link(), "create");
  ::containerd::task::v2::CreateTaskRequest wanted;
  wanted.set_id(request.id);
  wanted.set_bundle(request.bundle);
  const bool terminal = request.spec.process && request.spec.process->terminal;
  BERTH_ASSIGN(ShimStdio stdio, shim_stdio(request.stdio, terminal), "create");
  wanted.set_terminal(terminal);
  wanted.set_stdin(stdio.in);
  wanted.set_stdout(stdio.out);
  wanted.set_stderr(stdio.err);
  if (!options_.runtime_binary.empty() || !options_.runtime_root.empty() || options_.by_systemd()) {
    ::containerd::runc::v1::Options runc;
    runc.set_binary_name(options_.runtime_binary);
    runc.set_root(options_.runtime_root);
    runc.set_systemd_cgroup(options_.by_systemd());
    wanted.mutable_options()->set_type_url("containerd.runc.v1.Options");
    wanted.mutable_options()->set_value(runc.SerializeAsString());
  }
  processes_->hold(request.id, parts.link.get(), parts.cgroup);
  auto reply = parts.link->ask<::containerd::task::v2::CreateTaskResponse>("Create", wanted, kCreateLimit);
  if (!reply) return fail(explain(std::move(reply).error()));
  parts.init.pid = static_cast<pid_t>(reply->pid());
  BERTH_ASSIGN(parts.init.pidfd, believe_pid(reply->pid(), parts.cgroup), "create");
  if (!parts.init.pidfd.valid()) return fail(Code::kCorrupt, "the container's process has ended before its start");
  if (request.on_process) BERTH_TRY(request.on_process(parts.init), "create");
  Watched watched;
  watched.id = request.id;
  watched.pid = parts.init.pid;
  BERTH_ASSIGN(watched.pidfd, os::dup_fd(parts.init.pidfd.get()), "create");
  watched.outputs = std::move(stdio.outputs);
  watched.link = parts.link;
  BERTH_TRY(processes_->add(std::move(watched)), "create");
  if (terminal) parts.terminals[parts.init.pid] = {{}, std::move(stdio.ends)};
  return {};
}

Result<std::unique_ptr<engine::Container>> Engine::create(engine::CreateRequest request) {
  const std::string cgroup_path = request.spec.linux ? request.spec.linux->cgroups_path : "";
  if (!options_.by_systemd() && !cgroup_path.starts_with('/')) {
    return fail(Code::kInvalid, "linux.cgroupsPath: a container of a shim of another maker needs an absolute one");
  }
  BERTH_ASSIGN(ForeignContainer::Parts parts, parts_of(request.id, request.bundle, cgroup_path), "create");
  // What a failed creation left is killed by the cgroup, so there must be nobody else in it.
  BERTH_ASSIGN(const auto others, parts.cgroup.pids(), "create");
  if (!others.empty()) return fail(Code::kExists, "cgroup " + cgroup_path + " has processes already");
  if (parts.oom != nullptr) parts.oom->add(*parts.layout, parts.cgroup_path);
  auto made = create_in(request, parts);
  // One that does not answer may still create it later. What follows says nothing about the shim.
  if (!made && made.error().code() == Code::kUnavailable && parts.link != nullptr) kill_program(parts.link.get());
  if (made && request.spec.linux && request.spec.linux->resources)
    made = tell_limits(parts, *request.spec.linux->resources);
  if (made) return std::make_unique<ForeignContainer>(std::move(parts));
  if (auto cleared = clear_container(parts); !cleared) {
    log_error("a container that could not be created leaves something",
              {{"container", request.id}, {"err", cleared.error().text()}});
  }
  processes_->forget(request.id);
  return fail(std::move(made).error());
}

Result<> Engine::clear(const std::string& id, const std::string& bundle, const std::string& cgroup_path) {
  BERTH_ASSIGN(const ForeignContainer::Parts parts, parts_of(id, bundle, cgroup_path), "container " + id);
  return clear_container(parts);
}

}  // namespace

std::unique_ptr<ForeignEngine> make_foreign_engine(Options options) {
  return std::make_unique<Engine>(std::move(options));
}

}  // namespace berth::shim::foreign
