#include "shim/pod.h"

#include <malloc.h>
#include <sys/mman.h>

#include <chrono>
#include <csignal>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "os/clone.h"
#include "shim/exit_note.h"

namespace berth::shim {
namespace {

// After the last request of a burst: the pages are wanted back, but not on the way to a running pod.
constexpr std::chrono::milliseconds kTidyDelay{200};

// What the stack grew to while a configuration was parsed or a container made; below it nothing is in use.
void give_back_stack() {
  constexpr std::uintptr_t kPage = 4096;
  constexpr std::uintptr_t kMargin = 2 * kPage;
  constexpr std::uintptr_t kReach = 512U << 10;
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) & ~(kPage - 1);
  // The part that was never touched is not mapped: ENOMEM, after the rest was done.
  // NOLINTNEXTLINE(performance-no-int-to-ptr): below any object
  ::madvise(reinterpret_cast<void*>(here - kMargin - kReach), kReach, MADV_DONTNEED);
}

}  // namespace

void TaskProcess::stopped(std::uint32_t code, std::int64_t at_ns) {
  state = ProcessState::kStopped;
  exit_code = code;
  exited_at_ns = at_ns;
  to_start.reset();
  const auto callbacks = std::exchange(waiters, {});
  for (const auto& done : callbacks) done(*this);
}

Pod::Pod(event::Loop& loop, engine::Engine& engine, PodOptions options)
    : loop_(loop),
      engine_(engine),
      options_(std::move(options)),
      scratch_(loop, LogStream::out_bytes(options_.log_max_line_bytes)),
      io_{loop, scratch_, options_.log_max_line_bytes, options_.root},
      changes_(loop),
      reaper_(loop),
      leftovers_(options_.folder) {}

Pod::~Pod() {
  loop_.cancel(tidy_timer_);
}

Result<std::shared_ptr<Container>> Pod::find(std::string_view id) const {
  const auto found = containers_.find(id);
  if (found == containers_.end()) {
    return fail(Code::kNotFound, "container " + std::string(id.substr(0, 255)) + " does not exist");
  }
  return found->second;
}

Result<TaskProcess*> Pod::find_process(std::string_view id, std::string_view exec_id) const {
  BERTH_ASSIGN(const std::shared_ptr<Container> container, find(id), "task");
  if (exec_id.empty()) return &container->init;
  const auto found = container->execs.find(exec_id);
  if (found == container->execs.end()) {
    return fail(Code::kNotFound, "process " + std::string(exec_id.substr(0, 255)) + " of container " + container->id +
                                     " does not exist");
  }
  return &found->second;
}

Result<engine::Process> Pod::run_in(Container& container, spec::Process& process, engine::Stdio stdio,
                                    const std::string& sub_cgroup) {
  if (container.init.state != ProcessState::kRunning) {
    return fail(Code::kPrecondition, "container " + container.id + " is not running");
  }
  // It would stand still before its program begins, and we with it.
  if (container.checkpointing) {
    return fail(Code::kUnavailable, "a checkpoint of container " + container.id + " is being made; try again");
  }
  give_own_oom_score(process);
  engine::ExecRequest request;
  request.process = std::move(process);
  request.stdio = stdio;
  request.sub_cgroup = sub_cgroup;
  tidy_later();
  return container.engine->exec(request);
}

void Pod::give_own_oom_score(spec::Process& process) const {
  // A child that asks for nothing must not inherit the shim's protection.
  if (options_.oom.changed && !process.oom_score_adj) process.oom_score_adj = options_.oom.before;
}

void Pod::keep_init(PodInit init) {
  init_.emplace(std::move(init));
  reaper_.watch(init_->pid(), [this](int code) { pod_init_ended(code); });
}

void Pod::pod_init_ended(int code) {
  init_->ended(code);
  crashpoint("shim.pod-init.ended");
  log_error("the pod is over", {{"err", init_->end()}});
  // The number is no container's: whoever waits is told of the end beside them.
  [[maybe_unused]] const auto number = changes_.next_and_wake();
}

/// `pid_namespace`: the container's, of which the specification says where it is; may be nullptr.
Result<> Pod::join_pids(Container& container, const spec::Namespace* pid_namespace) const {
  if (pid_namespace == nullptr || pid_namespace->path.empty()) return {};
  for (const auto& [id, other] : containers_) {
    if (other->init.state != ProcessState::kStopped &&
        pid_namespace->path == "/proc/" + std::to_string(other->init.pid) + "/ns/pid") {
      container.pid_owner = other;
      container.pid_owner_id = id;
    }
  }
  if (init_ && init_->ending()) {
    const std::string why = init_->end().empty() ? "the pod's init is ending" : init_->end();
    return fail(Code::kPrecondition, "the pod's pid namespace is gone: " + why);
  }
  container.pod_pids = init_ && init_->is_namespace(pid_namespace->path);
  // The number of a process that was reaped may be any other's by now. Those of our engine's pods are our children,
  // and none is reaped before this one is made.
  if (options_.host_mounts.valid() && !container.pod_pids && container.pid_owner_id.empty()) {
    return fail(Code::kPrecondition, pid_namespace->path + " is of no container of the pod that runs");
  }
  return {};
}

/// Whether the kernel has ended it with its pid namespace; the one whose namespace it was is reaped after it.
std::string Pod::lost_pids(const Container& container) const {
  if (container.pod_pids) {
    return init_->ending() ? "the pod's init was ended, and with it everything in the pod's pid namespace" : "";
  }
  const auto owner = container.pid_owner.lock();
  const auto first = owner ? os::process_times(owner->init.pid) : Result<os::ProcessTimes>(os::ProcessTimes());
  const bool lives = owner && owner->init.state != ProcessState::kStopped && first && !first->exiting;
  if (container.own_pid_namespace || container.pid_owner_id.empty() || lives) return {};
  return "container " + container.pid_owner_id + ", in whose pid namespace it was, has ended";
}

void Pod::init_ended(const std::shared_ptr<Container>& container, int code) {
  const std::int64_t now = wall_now_ns();
  crashpoint("shim.exit.reaped");
  // The pid namespace has killed the rest; where it is shared, that is for us to do.
  if (!container->own_pid_namespace) {
    ignore(container->engine->kill(SIGKILL, true), "nobody left is what we want; remove() kills again and tells");
  }
  if (const auto oom = container->engine->oom_killed(); oom) container->oom_killed = *oom;
  const bool news = container->init.state != ProcessState::kStopped;
  if (news) {
    container->reason = code == 0 ? "Completed" : "Error";
    if (container->oom_killed && code != 0) container->reason = "OOMKilled";
    if (container->oom_killed) container->message = container->engine->oom_cause();
    if (code == 128 + SIGKILL && container->message.empty()) container->message = lost_pids(*container);
    // Nobody else knows the code: noted before anything that takes time.
    auto noted = note_exit(container->bundle, static_cast<std::uint32_t>(code), now, container->reason);
    ignore(noted, "it is told by us as long as we live");
  }
  crashpoint("shim.exit.noted");
  if (container->init.io != nullptr) container->init.io->finish();
  if (news) {
    container->init.stopped(static_cast<std::uint32_t>(code), now);
    if (options_.on_exit) options_.on_exit(*container, {}, container->init);
  }
  crashpoint("shim.exit.drained");
  container->changed_seq = changes_.next_and_wake();
  tidy_later();
}

void Pod::remove_all() {
  while (!containers_.empty()) {
    const std::shared_ptr<Container> container = containers_.begin()->second;
    reaper_.forget(container->init.pid);
    if (auto removed = container->engine->remove(); !removed) {
      log_error("container stays", {{"container", container->id}, {"err", removed.error().text()}});
    } else {
      leftovers_.forget(container->id);
    }
    containers_.erase(containers_.begin());
    for (auto& [exec_id, exec] : container->execs) {
      reaper_.forget(exec.pid);
      if (exec.state != ProcessState::kStopped) exec.stopped(128 + SIGKILL, wall_now_ns());
    }
    if (container->init.state != ProcessState::kStopped) container->init.stopped(128 + SIGKILL, wall_now_ns());
  }
}

void Pod::tidy_later() {
  loop_.cancel(tidy_timer_);
  tidy_timer_ = loop_.add_timer(kTidyDelay, [this] { tidy(); });
}

void Pod::tidy() {
  tidy_timer_ = event::kNoTimer;
  ::malloc_trim(0);
  give_back_stack();
}

}  // namespace berth::shim
