#include "create.h"

#include <fcntl.h>
#include <unistd.h>

#include <climits>
#include <csignal>
#include <cstdlib>

#include "base/clock.h"
#include "base/strings.h"
#include "checkpoint_flags.h"
#include "notify_socket.h"
#include "os/channel.h"
#include "os/clone.h"
#include "os/file.h"
#include "os/pidfd.h"
#include "os/socket.h"
#include "relay.h"
#include "rootless.h"

namespace berth::oci {

namespace {

constexpr std::size_t kConfigLimit = 4U << 20;
constexpr std::chrono::milliseconds kConnectTimeout{10'000};

struct Made {
  Record record;
  std::unique_ptr<engine::process::ProcessContainer> container;
};

/// The common part of create and run: state first, then the container, then the state again. On error nothing is left.
class Creation {
 public:
  Creation(Context& context, bool waits_for_other) : context_(context), waits_for_other_(waits_for_other) {}

  Result<Made> run(bool detached) {
    const std::string id = context_.args.rest()[0];
    BERTH_ASSIGN(Bundle bundle, load_bundle(context_.args), "bundle");
    const bool terminal = bundle.spec.process && bundle.spec.process->terminal;
    BERTH_TRY(check_console(detached, terminal, context_.args), "terminal");
    BERTH_ASSIGN(const UniqueFd lock, context_.store.add(id), "state");
    auto made = make(id, std::move(bundle));
    if (!made) ignore(context_.store.remove(id), "the first failure is the one to tell");
    return made;
  }

 private:
  Result<Made> make(const std::string& id, Bundle bundle);
  Result<> describe(const std::string& id, Bundle& bundle, Record& record);
  void leave_out_cgroups(spec::Spec& spec) {
    without_cgroups_ = engine::process::make_process_engine({.cgroup_root = {}});
    drop_device_rules(spec);
  }

  Context& context_;
  bool waits_for_other_;
  std::unique_ptr<engine::process::ProcessEngine> without_cgroups_;  ///< in place of the context's, where set
};

/// All of the record that is known before the container is made. Where its cgroup will be is written down before it is
/// there: after a crash in between `delete --force` finds it.
Result<> Creation::describe(const std::string& id, Bundle& bundle, Record& record) {
  record.id = id;
  record.bundle = bundle.path;
  record.created = format_rfc3339(wall_now());
  record.owner = ::geteuid();
  const std::string cgroups_path = bundle.spec.linux ? bundle.spec.linux->cgroups_path : std::string();
  BERTH_ASSIGN(record.cgroup, context_.engine.cgroup_for(cgroups_path, id), "cgroup");
  BERTH_ASSIGN(record.systemd_unit, context_.engine.unit_for(cgroups_path, id), "cgroup");
  record.systemd_user = !record.systemd_unit.empty() && context_.systemd_user;
  if (record.systemd_unit.empty() && context_.rootless && !may_make_cgroup(record.cgroup)) {
    leave_out_cgroups(bundle.spec);
    record.cgroup.clear();
  }
  return {};
}

Result<Made> Creation::make(const std::string& id, Bundle bundle) {
  const Args& args = context_.args;
  Made made;
  BERTH_TRY(describe(id, bundle, made.record), "create");
  const bool terminal = bundle.spec.process && bundle.spec.process->terminal;
  engine::CreateRequest request;
  request.id = id;
  request.bundle = bundle.path;
  request.spec = std::move(bundle.spec);
  request.stdio = {0, 1, 2};
  BERTH_ASSIGN(const PassedFds passed, passed_fds(args), "--preserve-fds");
  request.extra_fds = passed.fds;
  if (request.spec.process) add_listen_env(passed, *request.spec.process);
  bool notifies = false;
  if (const auto notify = NotifySocket::from_environment(context_.store.folder(id))) {
    BERTH_TRY(notify->prepare(request.spec), "create");
    notifies = true;
  }
  const auto write_down = [this, &made, &config = bundle.config, terminal]() -> Result<> {
    if (made.record.stdio.empty()) {
      made.record.stdio = stdio_links(terminal);
      BERTH_TRY(context_.store.save_config(made.record.id, config), "state");
    }
    return context_.store.save(made.record);
  };
  request.on_place = write_down;
  // The record is complete before the program can run, whatever becomes of this process.
  request.on_process = [&made, write_down](const engine::Process& process) {
    made.record.pid = process.pid;
    made.record.start_time = os::process_start_time(process.pid).value_or(0);
    return write_down();
  };
  request.start_at_once = !waits_for_other_ && !notifies && !args.has("pid-file") && !args.has("console-socket");
  request.no_pivot = args.on("no-pivot");
  request.no_new_keyring = args.on("no-new-keyring");
  if (waits_for_other_) request.start_socket = context_.store.start_socket(id);
  request.shared_root = context_.store.shared_root(id);
  auto& engine = without_cgroups_ != nullptr ? *without_cgroups_ : context_.engine;
  auto container = engine.create_process(std::move(request));
  if (!container) return fail(std::move(container).error());
  made.container = std::move(*container);
  Result<> done;
  if (made.container->cgroup_path() != made.record.cgroup) {
    made.record.cgroup = made.container->cgroup_path();  // systemd decided
    done = context_.store.save(made.record);
  }
  if (done) done = write_pid_file(args, made.record.pid);
  if (done && args.has("console-socket")) {
    const UniqueFd console = made.container->take_console();
    done = send_console(args.value_or("console-socket", ""), console.get());
  }
  if (!done) {
    ignore(made.container->remove(), "the first failure is the one to tell");
    ignore(os::reap_pidfd(made.container->init().pidfd.get()), "likewise");
    return fail(std::move(done).error());
  }
  return made;
}

/// Removes what a foreground run leaves.
Result<> clean_up(Context& context, const Made& made) {
  auto removed = made.container->remove();
  auto forgotten = context.store.remove(made.record.id);
  if (!removed) return removed;
  return forgotten;
}

}  // namespace

Result<Bundle> load_bundle(const Args& args) {
  Bundle bundle;
  const std::string given = args.value_or("bundle", ".");
  // The state outlives this process and its working folder: the path must be absolute and without links.
  char* const real = ::realpath(given.c_str(), nullptr);
  if (real == nullptr) return fail_errno(errno, "bundle " + given);
  bundle.path = real;
  ::free(real);  // NOLINT(cppcoreguidelines-no-malloc): realpath's contract
  auto text = os::read_file(bundle.path + "/config.json", kConfigLimit);
  if (!text) {
    if (text.error().code() == Code::kNotFound) {
      return fail(Code::kNotFound, "JSON specification file config.json not found");
    }
    return fail(std::move(text).error());
  }
  bundle.config = std::move(*text);
  BERTH_ASSIGN(bundle.spec, spec::parse_spec(bundle.config), "config.json");
  BERTH_TRY(spec::validate(bundle.spec), "config.json");
  return bundle;
}

Result<PassedFds> passed_fds(const Args& args) {
  PassedFds passed;
  const char* const listen = ::getenv("LISTEN_FDS");  // NOLINT(concurrency-mt-unsafe): one thread
  if (listen != nullptr) passed.listen_count = parse_number<int>(listen).value_or(0);
  const auto more = parse_number<int>(args.value_or("preserve-fds", "0"));
  constexpr int kMany = 1 << 16;
  if (!more || *more < 0 || *more > kMany || passed.listen_count < 0 || passed.listen_count > kMany) {
    return fail(Code::kInvalid, "not a number of descriptors");
  }
  for (int fd = 3; fd < 3 + passed.listen_count + *more; ++fd) {
    // One with FD_CLOEXEC did not come through our exec: it is our own.
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags < 0 || (flags & FD_CLOEXEC) != 0)
      return fail(Code::kInvalid, "please check that preserved-fd " + std::to_string(fd - 3) + " is present");
    passed.fds.push_back(fd);
  }
  return passed;
}

void add_listen_env(const PassedFds& passed, spec::Process& process) {
  if (passed.listen_count == 0) return;
  process.env.push_back("LISTEN_FDS=" + std::to_string(passed.listen_count));
  process.env.emplace_back("LISTEN_PID=1");
}

Result<> send_console(const std::string& socket_path, int console_fd) {
  if (console_fd < 0) return fail(Code::kPrecondition, "there is no terminal to send");
  BERTH_ASSIGN(const UniqueFd socket, os::unix_connect(socket_path, kConnectTimeout), "--console-socket");
  return os::send_fd(socket.get(), console_fd, "/dev/ptmx");
}

Result<> check_console(bool detached, bool terminal, const Args& args) {
  const bool has_socket = args.has("console-socket");
  if (detached && terminal && !has_socket) {
    return fail(Code::kInvalid, "cannot allocate tty if berth-oci will detach without setting console socket");
  }
  if (has_socket && (!detached || !terminal)) {
    return fail(Code::kInvalid, "cannot use console socket if berth-oci will not detach or allocate tty");
  }
  return {};
}

Result<> write_pid_file(const Args& args, pid_t pid) {
  const auto path = args.value("pid-file");
  if (!path) return {};
  return os::write_file_atomic(*path, std::to_string(pid), 0644);
}

Result<int> run_create(Context& context) {
  BERTH_ASSIGN(const Made made, Creation(context, true).run(true), "create");
  return 0;
}

Result<int> run_run(Context& context) {
  const bool detached = context.args.on("detach");
  Relay relay;
  if (!detached) BERTH_TRY(relay.catch_signals(), "run");
  BERTH_ASSIGN(const Made made, Creation(context, false).run(detached), "run");
  auto notify = NotifySocket::from_environment(context.store.folder(made.record.id));
  auto started = notify ? notify->bind() : Result<>();
  if (started) started = made.container->start();
  if (!started) {
    ignore(made.container->kill(SIGKILL, false), "it ends by itself");
    ignore(os::reap_pidfd(made.container->init().pidfd.get()), "it ends by itself");
    ignore(clean_up(context, made), "the first failure is the one to tell");
    return fail(std::move(started).error());
  }
  if (detached) {
    if (notify) notify->wait_and_warn(made.container->init());
    return 0;
  }
  auto code = relay.run(made.container->init(), made.container->take_console(), notify ? &*notify : nullptr);
  if (!context.args.on("keep")) BERTH_TRY(clean_up(context, made), "delete");
  return code;
}

}  // namespace berth::oci
