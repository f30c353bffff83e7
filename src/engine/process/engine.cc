#include <fcntl.h>
#include <sched.h>

#include <csignal>
#include <functional>
#include <optional>
#include <utility>

#include "base/ids.h"
#include "base/log.h"
#include "base/strings.h"
#include "engine/process/checkpoint.h"
#include "engine/process/container.h"
#include "engine/process/finish.h"
#include "engine/process/hooks.h"
#include "engine/process/idmap.h"
#include "engine/process/intel_rdt.h"
#include "engine/process/launch.h"
#include "engine/process/net_devices.h"
#include "engine/process/protocol.h"
#include "engine/process/systemd_unit.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "os/root_path.h"
#include "os/socket.h"
#include "os/systemd.h"

namespace berth::engine::process {

namespace {

/// Makes the container's cgroup with its limits.
using MakeCgroup = std::function<Result<>()>;

/// The parent's half of a creation: clones init and answers what it asks until it is ready.
class Creation {
 public:
  /// `cgroup`: borrowed; known when `make_cgroup` has run, and before when it says where.
  Creation(const CreateRequest& request, const Cgroup& cgroup, const MakeCgroup& make_cgroup, int filter_cache)
      : request_(request), cgroup_(cgroup), make_cgroup_(make_cgroup), filter_cache_(filter_cache) {}
  Creation(const Creation&) = delete;
  Creation& operator=(const Creation&) = delete;
  Creation(Creation&&) = delete;
  Creation& operator=(Creation&&) = delete;
  /// Ends what was not taken.
  ~Creation();

  Result<> run();
  [[nodiscard]] pid_t pid() const { return process_.pid; }
  [[nodiscard]] Process take_process() { return std::move(process_); }
  [[nodiscard]] UniqueFd take_channel() { return std::move(channel_); }
  [[nodiscard]] bool start_sent() const { return start_sent_; }

 private:
  Result<> clone(Launch& launch);
  Result<> cgroup_made();
  Result<> process_known();
  Result<> set_oom_score() const;
  [[nodiscard]] bool may_start_at_once(const Launch& launch) const;
  Result<> talk();
  Result<> answer(os::ChannelMessage& message);
  Result<> map_user();
  Error ended_early();

  const CreateRequest& request_;
  const Cgroup& cgroup_;
  const MakeCgroup& make_cgroup_;
  int filter_cache_;  ///< borrowed; -1: none
  UniqueFd channel_;
  UniqueFd listener_;
  UniqueFd helper_;  ///< the pidfd of the process between, until it is reaped
  Process process_;
  bool map_pending_ = false;
  bool ready_ = false;
  bool start_sent_ = false;
};

Creation::~Creation() {
  if (helper_.valid()) {
    ignore(os::pidfd_signal(helper_.get(), SIGKILL), "it may have ended");
    ignore(os::reap_pidfd(helper_.get()), "nothing more can be done");
  }
  if (!process_.pidfd.valid()) return;
  ignore(os::pidfd_signal(process_.pidfd.get(), SIGKILL), "it may have ended");
  ignore(os::reap_pidfd(process_.pidfd.get()), "nothing more can be done");
}

Result<> Creation::clone(Launch& launch) {
  BERTH_ASSIGN(auto pair, os::unix_socketpair(), "channel");
  channel_ = std::move(pair.first);
  launch.channel = pair.second.get();
  if (!request_.start_socket.empty()) {
    BERTH_ASSIGN(listener_, os::unix_listen(request_.start_socket), "start socket");
    BERTH_TRY(os::set_nonblocking(listener_.get(), false), "start socket");
    launch.listener = listener_.get();
  }
  const bool helper = launch.in_user_namespace() && (!launch.joins.empty() || launch.user_join.valid());
  os::CloneOptions options;
  options.cgroup_fd = launch.cgroup.v2_dir.get();
  // See in_helper() and enter_namespaces() for the two that come later.
  if (!helper) options.flags = launch.new_namespaces & ~static_cast<std::uint64_t>(CLONE_NEWCGROUP | CLONE_NEWTIME);
  BERTH_ASSIGN(os::Cloned cloned, clone_in_pid_namespace(options, launch.pid_join.get()), "clone init");
  if (cloned.pid == 0) {
    channel_.reset();
    run_init(launch);
  }
  listener_.reset();
  if (helper) {
    helper_ = std::move(cloned.pidfd);
  } else {
    process_.pid = cloned.pid;
    process_.pidfd = std::move(cloned.pidfd);
  }
  return {};
}

Result<> Creation::map_user() {
  map_pending_ = false;
  BERTH_TRY(write_id_maps(process_.pid, *request_.spec.linux), "user namespace");
  return send_signal(channel_.get(), Signal::kGo);
}

Result<> Creation::answer(os::ChannelMessage& message) {
  switch (static_cast<Signal>(message.kind)) {
    case Signal::kPid: {
      process_.pidfd = std::move(message.fd);
      BERTH_ASSIGN(process_.pid, pid_of(process_.pidfd.get()), "init");
      BERTH_TRY(os::reap_pidfd(helper_.get()), "helper");
      helper_.reset();
      return map_pending_ ? map_user() : Result<>();
    }
    case Signal::kMapUser:
      // The helper's message may come after that of its child.
      if (process_.pid > 0) return map_user();
      map_pending_ = true;
      return {};
    case Signal::kConsole:
      process_.console = std::move(message.fd);
      return {};
    case Signal::kHooks: {
      const auto& spec = request_.spec;
      const std::string state = hook_state(request_.id, request_.bundle, spec, spec::Status::kCreating, process_.pid);
      BERTH_TRY(run_hooks(spec.hooks->prestart, "prestart", state), "hooks");
      BERTH_TRY(run_hooks(spec.hooks->create_runtime, "createRuntime", state), "hooks");
      return send_signal(channel_.get(), Signal::kGo);
    }
    case Signal::kNetwork:
      BERTH_TRY(move_net_devices(*request_.spec.linux, message.fd.get()), "network");
      return send_signal(channel_.get(), Signal::kGo);
    case Signal::kReady:
      ready_ = true;
      return {};
    case Signal::kWarning:
      log_warn(message.text, {{"container", request_.id}});
      return {};
    case Signal::kError:
      return fail(error_of(message));
    default:
      return fail(Code::kInternal, "unexpected message " + std::to_string(message.kind));
  }
}

Error Creation::ended_early() {
  const auto code = process_.pidfd.valid() ? os::reap_pidfd(process_.pidfd.get()) : Result<int>(-1);
  process_.pidfd.reset();
  const bool oom = cgroup_.oom_kills() > 0;
  return Error(oom ? Code::kExhausted : Code::kInternal,
               oom ? std::string("init was killed for lack of memory: the limit is too small")
                   : "init ended before it was ready (" + std::to_string(code.value_or(-1)) + ")");
}

Result<> Creation::talk() {
  // A helper's pid comes before the end, but init may be ready first.
  while (!ready_ || helper_.valid()) {
    auto message = os::receive_message(channel_.get());
    if (!message) {
      if (message.error().code() == Code::kUnavailable) return fail(ended_early());
      return fail(std::move(message).error());
    }
    BERTH_TRY(answer(*message), "create container process");
  }
  return {};
}

/// Whether the start can lie in the channel from the beginning: the child must ask for nothing else before it, and
/// nobody but the caller have anything to do in between.
bool Creation::may_start_at_once(const Launch& launch) const {
  const auto& spec = request_.spec;
  return request_.start_at_once && request_.start_socket.empty() && !spec.hooks && !launch.in_user_namespace() &&
         spec.linux->net_devices.empty() && !spec.linux->intel_rdt;
}

/// A pending one, for the child that waits for it or will.
Result<> Creation::cgroup_made() {
  BERTH_TRY(make_cgroup_(), "create");
  ignore(send_signal(channel_.get(), Signal::kCgroup), "a child that has failed already has said why");
  return {};
}

Result<> Creation::process_known() {
  return request_.on_process ? request_.on_process(process_) : Result<>();
}

/// Of a process in a user namespace, which has no right to it itself.
Result<> Creation::set_oom_score() const {
  const auto& process = *request_.spec.process;
  if (!process.oom_score_adj) return {};
  BERTH_ASSIGN(const UniqueFd proc, os::open_verified_proc(), "procfs");
  return process::set_oom_score(process, proc.get(), std::to_string(process_.pid),
                                [this](const std::string& text) { log_warn(text, {{"container", request_.id}}); });
}

Result<> Creation::run() {
  bool at_once = false;
  bool pending = false;
  bool in_user_namespace = false;
  {
    BERTH_ASSIGN(Launch launch, prepare_launch(request_), "create");
    launch.filter_cache = filter_cache_;
    launch.cgroup_place = &cgroup_;
    launch.cgroup_pending = pending = may_join_late(launch, cgroup_);
    if (!pending) {
      if (request_.on_place) BERTH_TRY(request_.on_place(), "create");
      BERTH_TRY(make_cgroup_(), "create");
      BERTH_TRY(open_cgroup(cgroup_, launch), "create");
    }
    BERTH_TRY(clone(launch), "create");
    at_once = may_start_at_once(launch);
    in_user_namespace = launch.in_user_namespace();
    // Our copies of what the child has go now, while it works; its end of the channel went with `pair`, so that its end
    // of file reaches us.
  }
  if (process_.pid > 0) {
    BERTH_TRY(process_known(), "create");
    if (pending) BERTH_TRY(cgroup_made(), "create");
    if (at_once) {
      // Without an error: a child that has failed already has said why, and that is the error to tell.
      start_sent_ = send_signal(channel_.get(), Signal::kStart).has_value();
    }
    BERTH_TRY(talk(), "create");
    return in_user_namespace ? set_oom_score() : Result<>();
  }
  BERTH_TRY(talk(), "create");
  BERTH_TRY(set_oom_score(), "create");
  return process_known();
}

class LinuxEngine final : public ProcessEngine {
 public:
  explicit LinuxEngine(Options options) : options_(std::move(options)) {}

  Result<std::unique_ptr<Container>> create(CreateRequest request) override {
    auto made = create_process(std::move(request));
    if (!made) return fail(std::move(made).error());
    return std::unique_ptr<Container>(std::move(*made));
  }
  Result<std::unique_ptr<ProcessContainer>> create_process(CreateRequest request) override;
  Result<std::unique_ptr<ProcessContainer>> restore(RestoreRequest request) override;
  Result<std::unique_ptr<ProcessContainer>> attach(Saved saved) override;
  Result<std::string> cgroup_for(const std::string& cgroups_path, const std::string& id) override;
  Result<std::string> unit_for(const std::string& cgroups_path, const std::string& id) override {
    if (!by_systemd()) return std::string();
    BERTH_ASSIGN(const SystemdUnit unit, systemd_unit(cgroups_path, id, options_.systemd_user), "cgroup");
    return unit.name;
  }

 private:
  Result<std::shared_ptr<const os::CgroupLayout>> layout();
  Result<Cgroup> locate(const std::string& cgroups_path, const std::string& id);
  [[nodiscard]] bool by_systemd() const { return options_.cgroup_driver == CgroupDriver::kSystemd; }
  /// Where a container is put: its cgroup, the scope around it, its share of the caches.
  struct Place {
    Cgroup cgroup;
    std::optional<SystemdUnit> unit;
    std::optional<os::NewScope> scope;
    std::optional<RdtGroup> rdt;
  };
  /// Gives init: by a clone or by criu. Makes the place, by the call that is handed to it.
  using MakeInit = std::function<Result<>(Place& place, const MakeCgroup& make, LinuxContainer::Parts& parts)>;
  Result<std::unique_ptr<ProcessContainer>> make(CreateRequest& request, const MakeInit& make_init);
  /// Nothing is left when it fails.
  Result<> make_place(const CreateRequest& request, Place& place);
  Result<> fill_place(const CreateRequest& request, Place& place);
  Result<> make_scope(const CreateRequest& request, Place& place);
  void undo(Place& place) const;
  Result<> make_rdt(const spec::IntelRdt& config, const std::string& id, std::optional<RdtGroup>& made);
  // The folder of compiled filters, opened at the first use; nullptr where there is none.
  const UniqueFd* filter_cache() {
    if (filter_cache_ == nullptr && !options_.filter_cache.empty()) {
      auto dir = os::open_file(options_.filter_cache, O_PATH | O_DIRECTORY);
      if (dir) filter_cache_ = std::make_shared<const UniqueFd>(std::move(*dir));
    }
    return filter_cache_.get();
  }

  Options options_;
  std::shared_ptr<const UniqueFd> filter_cache_;
  std::shared_ptr<const os::CgroupLayout> layout_;
  std::shared_ptr<OomLedger> oom_ = std::make_shared<OomLedger>();
  /// The last answer of locate() and what it was for: cgroup_for() and create() ask for the same one.
  std::optional<Cgroup> located_;
  std::pair<std::string, std::string> located_for_;
};

Result<std::shared_ptr<const os::CgroupLayout>> LinuxEngine::layout() {
  if (layout_ == nullptr) {
    BERTH_ASSIGN(auto found, os::find_cgroups(options_.cgroup_root), "cgroups");
    layout_ = std::make_shared<const os::CgroupLayout>(std::move(found));
  }
  return layout_;
}

Result<Cgroup> LinuxEngine::locate(const std::string& cgroups_path, const std::string& id) {
  BERTH_ASSIGN(const auto cgroups, layout(), "cgroup");
  std::pair wanted{cgroups_path, id};
  if (!located_ || located_for_ != wanted) {
    BERTH_ASSIGN(located_, Cgroup::locate(*cgroups, cgroups_path, id), "cgroup");
    located_for_ = std::move(wanted);
  }
  return *located_;
}

Result<> LinuxEngine::make_rdt(const spec::IntelRdt& config, const std::string& id, std::optional<RdtGroup>& made) {
  BERTH_ASSIGN(auto group, RdtGroup::open(config, id, options_.resctrl_root), "create");
  BERTH_TRY(group.create(), "create");
  made.emplace(std::move(group));
  return {};
}

Result<std::string> LinuxEngine::cgroup_for(const std::string& cgroups_path, const std::string& id) {
  if (by_systemd()) {
    if (options_.systemd_user) return std::string();
    return scope_path(cgroups_path, id);
  }
  BERTH_ASSIGN(const Cgroup cgroup, locate(cgroups_path, id), "cgroup");
  return cgroup.saved();
}

Result<> LinuxEngine::make_scope(const CreateRequest& request, Place& place) {
  BERTH_ASSIGN(const auto cgroups, layout(), "cgroup");
  const spec::Linux* const config = request.spec.linux ? &*request.spec.linux : nullptr;
  BERTH_ASSIGN(const SystemdUnit unit,
               systemd_unit(config != nullptr ? config->cgroups_path : "", request.id, options_.systemd_user),
               "cgroup");
  UnitProperties properties = os::scope_properties(unit, "container " + request.id);
  if (config != nullptr && config->resources) {
    BERTH_ASSIGN(const auto limits, resource_properties(*config->resources, cgroups->v2), "cgroup");
    properties.insert(properties.end(), limits.begin(), limits.end());
  }
  // Last, so that they have the last word.
  BERTH_ASSIGN(const auto more, annotation_properties(request.spec.annotations), "cgroup");
  properties.insert(properties.end(), more.begin(), more.end());
  BERTH_ASSIGN(os::NewScope scope, os::NewScope::start(options_.scope_program(), unit, properties), "cgroup");
  place.unit = unit;
  place.scope.emplace(std::move(scope));
  BERTH_ASSIGN(place.cgroup, Cgroup::from_saved(*cgroups, place.scope->control_group(), true), "cgroup");
  if (cgroups->v2) oom_->add(*cgroups, place.scope->control_group());
  // v1: in the hierarchies that systemd does not use.
  return place.cgroup.create(true);
}

void LinuxEngine::undo(Place& place) const {
  if (place.rdt) ignore(place.rdt->remove(), "the first failure is the one to tell");
  if (place.scope && layout_ != nullptr) oom_->forget(*layout_, place.scope->control_group());
  place.scope.reset();
  ignore(place.cgroup.remove(), "likewise");
  if (place.unit) ignore(os::stop_unit(options_.scope_program(), *place.unit), "likewise");
}

Result<> LinuxEngine::fill_place(const CreateRequest& request, Place& place) {
  const auto* const config = request.spec.linux ? &*request.spec.linux : nullptr;
  if (config != nullptr && config->resources) BERTH_TRY(place.cgroup.set(*config->resources, false), "create");
  if (config != nullptr && config->intel_rdt) return make_rdt(*config->intel_rdt, request.id, place.rdt);
  return {};
}

Result<> LinuxEngine::make_place(const CreateRequest& request, Place& place) {
  auto made = by_systemd() ? make_scope(request, place) : place.cgroup.create();
  if (!made && made.error().code() == Code::kExists && !by_systemd()) return made;  // it is another's
  if (made) made = fill_place(request, place);
  if (!made) undo(place);
  return made;
}

Result<std::unique_ptr<ProcessContainer>> LinuxEngine::make(CreateRequest& request, const MakeInit& make_init) {
  if (!valid_id(request.id)) return fail(Code::kInvalid, "container id \"" + request.id + "\" cannot name a container");
  BERTH_ASSIGN(const auto cgroups, layout(), "create");
  Place place;
  if (!by_systemd()) {
    BERTH_ASSIGN(place.cgroup, locate(request.spec.linux ? request.spec.linux->cgroups_path : "", request.id),
                 "cgroup");
  }
  LinuxContainer::Parts parts;
  bool made = false;
  const auto make_it = [&] {
    auto done = make_place(request, place);
    made = done.has_value();
    return done;
  };
  auto done = make_init(place, make_it, parts);
  if (!done) {
    if (made) undo(place);
    if (!request.start_socket.empty()) ignore(os::remove_file(request.start_socket), "the first failure is told");
    ignore(release_shared_root(request.shared_root), "likewise");
    return fail(std::move(done).error());
  }
  parts.id = std::move(request.id);
  parts.bundle = std::move(request.bundle);
  parts.spec = std::move(request.spec);
  parts.layout = cgroups;
  parts.cgroup = std::move(place.cgroup);
  parts.unit = std::move(place.unit);
  parts.scope_program = options_.scope_program;
  if (parts.unit && cgroups->v2) parts.oom = oom_;
  parts.filter_cache = filter_cache_;
  parts.resctrl_root = options_.resctrl_root;
  parts.start_socket = std::move(request.start_socket);
  parts.shared_root = std::move(request.shared_root);
  return std::make_unique<LinuxContainer>(std::move(parts));
}

Result<std::unique_ptr<ProcessContainer>> LinuxEngine::create_process(CreateRequest request) {
  const auto clone_it = [&](Place& place, const MakeCgroup& make, LinuxContainer::Parts& parts) -> Result<> {
    Creation creation(request, place.cgroup, make, filter_cache() != nullptr ? filter_cache_->get() : -1);
    BERTH_TRY(creation.run(), "create");
    if (place.rdt) BERTH_TRY(place.rdt->add(creation.pid()), "create");
    parts.init = creation.take_process();
    if (request.start_socket.empty()) parts.channel = creation.take_channel();
    parts.start_sent = creation.start_sent();
    return {};
  };
  return make(request, clone_it);
}

Result<std::unique_ptr<ProcessContainer>> LinuxEngine::restore(RestoreRequest request) {
  CreateRequest& container = request.container;
  if (!container.spec.linux || !container.spec.linux->find_namespace(spec::NamespaceType::kMount)) {
    return fail(Code::kUnsupported, "a container without a mount namespace of its own cannot be restored");
  }
  if (request.frozen) {
    BERTH_ASSIGN(const auto cgroups, layout(), "restore");
    if (!cgroups->v2) {
      return fail(Code::kUnsupported, "restored processes can be kept from running under cgroup v2 alone");
    }
  }
  const auto restore_it = [&](Place& place, const MakeCgroup& make_cgroup, LinuxContainer::Parts& parts) -> Result<> {
    BERTH_TRY(make_cgroup(), "restore");
    // What criu makes of init later inherits the group.
    const auto joined = [&place](pid_t pid) { return place.rdt ? place.rdt->add(pid) : Result<>(); };
    auto process = restore_checkpoint(request, place.cgroup, joined);
    if (!process) {
      ignore(place.cgroup.kill_all(SIGKILL), "criu has ended them, if it could");
      return fail(std::move(process).error());
    }
    parts.init = std::move(*process);
    parts.started = !request.frozen;
    parts.frozen = request.frozen;
    add_time_namespace(container.spec, parts.init.pid);
    return {};
  };
  return make(container, restore_it);
}

Result<std::unique_ptr<ProcessContainer>> LinuxEngine::attach(Saved saved) {
  BERTH_ASSIGN(const auto cgroups, layout(), "attach");
  LinuxContainer::Parts parts;
  BERTH_ASSIGN(parts.cgroup, Cgroup::from_saved(*cgroups, saved.cgroup_path, !saved.systemd_unit.empty()), "attach");
  parts.id = std::move(saved.id);
  parts.bundle = std::move(saved.bundle);
  parts.spec = std::move(saved.spec);
  parts.layout = cgroups;
  parts.start_socket = std::move(saved.start_socket);
  parts.shared_root = std::move(saved.shared_root);
  parts.stdio = std::move(saved.stdio);
  parts.resctrl_root = options_.resctrl_root;
  parts.scope_program = options_.scope_program;
  if (!saved.systemd_unit.empty()) parts.unit = SystemdUnit{saved.systemd_unit, {}, saved.systemd_user};
  parts.init.pid = saved.pid;
  parts.start_time = saved.start_time;
  // The pidfd first, then the time: a pid that was recycled in between shows another time and is not ours.
  if (auto pidfd = saved.pid > 0 ? os::open_pidfd(saved.pid) : Result<UniqueFd>(UniqueFd())) {
    const auto time = os::process_start_time(saved.pid);
    if (time && *time == saved.start_time) parts.init.pidfd = std::move(*pidfd);
  }
  return std::make_unique<LinuxContainer>(std::move(parts));
}

}  // namespace

std::unique_ptr<ProcessEngine> make_process_engine(Options options) {
  return std::make_unique<LinuxEngine>(std::move(options));
}

}  // namespace berth::engine::process
