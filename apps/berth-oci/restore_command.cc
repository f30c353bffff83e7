#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "base/clock.h"
#include "checkpoint_flags.h"
#include "create.h"
#include "notify_socket.h"
#include "os/clone.h"
#include "os/pidfd.h"
#include "relay.h"
#include "rootless.h"

namespace berth::oci {

namespace {

struct Restored {
  Record record;
  std::unique_ptr<engine::process::ProcessContainer> container;
  std::optional<NotifySocket> notify;
};

/// Like a creation: the state first, then the container, then the state again. On error nothing is left.
class Restoration {
 public:
  explicit Restoration(Context& context) : context_(context) {}

  Result<Restored> run(bool detached) {
    BERTH_ASSIGN(Bundle bundle, load_bundle(context_.args), "bundle");
    const bool terminal = bundle.spec.process && bundle.spec.process->terminal;
    BERTH_TRY(check_console(detached, terminal, context_.args), "terminal");
    BERTH_ASSIGN(options_.criu, criu_options(context_), "restore");
    options_.lsm_profile = context_.args.value_or("lsm-profile", "");
    options_.lsm_mount_context = context_.args.value_or("lsm-mount-context", "");
    const std::string id = context_.args.rest()[0];
    BERTH_ASSIGN(const UniqueFd lock, context_.store.add(id), "state");
    auto restored = restore(id, std::move(bundle), terminal);
    if (!restored) ignore(context_.store.remove(id), "the first failure is the one to tell");
    return restored;
  }

 private:
  Result<Restored> restore(const std::string& id, Bundle bundle, bool terminal);
  Result<> begin(const std::string& id, Bundle& bundle, bool terminal, Record& record);
  Result<> finish(const Bundle& bundle, Restored& restored);

  Context& context_;
  engine::process::RestoreOptions options_;
};

Result<> Restoration::begin(const std::string& id, Bundle& bundle, bool terminal, Record& record) {
  BERTH_TRY(context_.store.save_config(id, bundle.config), "state");
  record.id = id;
  record.bundle = bundle.path;
  record.created = format_rfc3339(wall_now());
  record.owner = ::geteuid();
  record.stdio = stdio_links(terminal);
  const std::string cgroups_path = bundle.spec.linux ? bundle.spec.linux->cgroups_path : std::string();
  BERTH_ASSIGN(record.cgroup, context_.engine.cgroup_for(cgroups_path, id), "cgroup");
  BERTH_ASSIGN(record.systemd_unit, context_.engine.unit_for(cgroups_path, id), "cgroup");
  record.systemd_user = !record.systemd_unit.empty() && context_.systemd_user;
  return context_.store.save(record);
}

/// criu puts restored processes in a time namespace, so that their clocks go on from where they were; an exec must find
/// them there.
bool in_other_time(pid_t pid) {
  struct stat own{};
  struct stat theirs{};
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/time";
  return ::stat("/proc/self/ns/time", &own) == 0 && ::stat(path.c_str(), &theirs) == 0 && own.st_ino != theirs.st_ino;
}

Result<> Restoration::finish(const Bundle& bundle, Restored& restored) {
  if (restored.container->cgroup_path() != restored.record.cgroup) {
    restored.record.cgroup = restored.container->cgroup_path();  // systemd decided
    BERTH_TRY(context_.store.save(restored.record), "state");
  }
  const bool known = bundle.spec.linux->find_namespace(spec::NamespaceType::kTime) != nullptr;
  if (!known && in_other_time(restored.record.pid)) {
    spec::Spec spec = bundle.spec;
    spec::Namespace time;
    time.type = spec::NamespaceType::kTime;
    spec.linux->namespaces.push_back(std::move(time));
    BERTH_TRY(context_.store.save_config(restored.record.id, spec::write_spec(spec)), "state");
  }
  BERTH_TRY(write_pid_file(context_.args, restored.record.pid), "--pid-file");
  if (!context_.args.has("console-socket")) return {};
  const UniqueFd console = restored.container->take_console();
  return send_console(context_.args.value_or("console-socket", ""), console.get());
}

Result<Restored> Restoration::restore(const std::string& id, Bundle bundle, bool terminal) {
  Restored restored;
  BERTH_TRY(begin(id, bundle, terminal, restored.record), "state");
  engine::process::RestoreRequest request;
  request.options = options_;
  request.root_folder = context_.store.folder(id) + "/criu-root";
  request.container.id = id;
  request.container.bundle = bundle.path;
  request.container.spec = bundle.spec;
  request.container.stdio = {0, 1, 2};
  restored.notify = NotifySocket::from_environment(context_.store.folder(id));
  if (restored.notify) {
    BERTH_TRY(restored.notify->prepare(request.container.spec), "restore");
    BERTH_TRY(restored.notify->bind(), "restore");
  }
  request.container.on_process = [this, &restored](const engine::Process& process) {
    restored.record.pid = process.pid;
    restored.record.start_time = os::process_start_time(process.pid).value_or(0);
    return context_.store.save(restored.record);
  };
  auto container = context_.engine.restore(std::move(request));
  if (!container) return fail(std::move(container).error());
  restored.container = std::move(*container);
  if (auto done = finish(bundle, restored); !done) {
    ignore(restored.container->remove(), "the first failure is the one to tell");
    ignore(os::reap_pidfd(restored.container->init().pidfd.get()), "likewise");
    return fail(std::move(done).error());
  }
  return restored;
}

}  // namespace

Result<int> run_restore(Context& context) {
  const bool detached = context.args.on("detach");
  Relay relay;
  if (!detached) BERTH_TRY(relay.catch_signals(), "restore");
  auto restored = Restoration(context).run(detached);
  if (!restored) return fail(std::move(restored).error());
  if (detached) return 0;
  auto& container = *restored->container;
  auto code = relay.run(container.init(), container.take_console(), restored->notify ? &*restored->notify : nullptr);
  BERTH_TRY(container.remove(), "delete");
  BERTH_TRY(context.store.remove(restored->record.id), "delete");
  return code;
}

}  // namespace berth::oci
