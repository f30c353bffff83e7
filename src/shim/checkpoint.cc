#include "shim/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <set>

#include "base/failpoint.h"
#include "base/log.h"
#include "engine/process/checkpoint.h"
#include "engine/process/criu.h"
#include "engine/process/process_engine.h"
#include "os/channel.h"
#include "os/clone.h"
#include "os/file.h"
#include "os/process_attr.h"
#include "os/socket.h"
#include "shim/tree_tar.h"
#include "spec/json_text.h"

namespace berth::shim {
namespace {

constexpr std::size_t kMaxTargets = 1024;
constexpr std::uint64_t kMaxTimeoutMs = 1ULL << 40;
// How long a killed criu is waited for.
constexpr int kLastLooks = 1000;
constexpr std::chrono::milliseconds kLookInterval{5};
constexpr std::chrono::milliseconds kWantedInterval{200};

/// What the worker tells.
enum class Word : std::uint32_t { kStep = 1, kDone, kFailed };

/// A container as the worker needs it.
struct Subject {
  std::shared_ptr<Container> container;
  engine::process::ProcessContainer* engine = nullptr;
  CheckpointTarget target;
  std::vector<std::string> streams;
};

/// In the child: everything that takes time. Its objects are copies, whose kernel side is shared.
class Worker final {
 public:
  Worker(const std::vector<Subject>& subjects, std::string shm_folder, std::string shm_file, int channel_fd)
      : subjects_(subjects),
        shm_folder_(std::move(shm_folder)),
        shm_file_(std::move(shm_file)),
        channel_fd_(channel_fd) {}

  [[noreturn]] void run() {
    auto done = work();
    os::ChannelMessage message;
    message.kind = static_cast<std::uint32_t>(done ? Word::kDone : Word::kFailed);
    if (!done) {
      message.code = static_cast<std::int32_t>(done.error().code());
      message.errno_value = done.error().errno_value();
      message.text = done.error().text();
    }
    ignore(os::send_message(channel_fd_, message), "the end without a word says that it failed");
    ::_exit(done ? 0 : 1);
  }

 private:
  Result<> work();
  Result<> dump(const Subject& subject);
  Result<> write_layer(const Subject& subject);
  Result<> write_shm();
  // The channel is read at the end, and nobody may stand still for want of room in it.
  void step(std::string text) {
    constexpr unsigned kMaxSteps = 128;
    if (++steps_ > kMaxSteps) return;
    os::ChannelMessage message;
    message.kind = static_cast<std::uint32_t>(Word::kStep);
    message.text = std::move(text);
    ignore(os::send_message(channel_fd_, message), "it is for people");
  }

  const std::vector<Subject>& subjects_;
  std::string shm_folder_;
  std::string shm_file_;
  int channel_fd_;
  unsigned steps_ = 0;
};

Result<> Worker::work() {
  // One process group with criu and what criu starts, which a time limit ends as a whole.
  if (::setpgid(0, 0) != 0) return fail_errno(errno, "process group");
  BERTH_TRY(os::set_parent_death_signal(SIGKILL), "checkpoint");
  step("look for criu");
  BERTH_ASSIGN(const std::string criu, engine::process::find_criu("criu"), "criu");
  // Before anything stands still: whether it gets on with this kernel, which it looks at for this question.
  if (auto works = engine::process::criu_features(criu, {.mem_track = true, .lazy_pages = false}); !works) {
    return fail(std::move(works).error().in("criu does not work on this kernel").as(Code::kUnsupported));
  }
  crashpoint("shim.checkpoint.begun");
  for (const auto& subject : subjects_) {
    step("freeze container " + subject.container->id);
    BERTH_TRY(subject.engine->pause(), "freeze container " + subject.container->id);
  }
  crashpoint("shim.checkpoint.frozen");
  for (const auto& subject : subjects_) BERTH_TRY(dump(subject), "container " + subject.container->id);
  for (const auto& subject : subjects_) BERTH_TRY(write_layer(subject), "container " + subject.container->id);
  if (!shm_file_.empty()) BERTH_TRY(write_shm(), "/dev/shm of the pod");
  crashpoint("shim.checkpoint.written");
  return {};
}

Result<> Worker::dump(const Subject& subject) {
  step("criu writes container " + subject.container->id);
  engine::process::CheckpointOptions options;
  options.criu.image_path = subject.target.folder + "/checkpoint";
  options.criu.work_path = subject.target.folder;
  options.leave_running = true;
  options.stdio = subject.streams;
  return subject.engine->checkpoint(options);
}

Result<> Worker::write_layer(const Subject& subject) {
  step("write the files of container " + subject.container->id);
  const auto& target = subject.target;
  BERTH_ASSIGN(const UniqueFd upper, os::open_file(target.upper, O_RDONLY | O_DIRECTORY), "writable layer");
  BERTH_ASSIGN(const UniqueFd out,
               os::open_file(target.folder + "/rootfs-diff.tar", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600),
               "writable layer");
  std::vector<std::string> deleted;
  BERTH_TRY(write_tree_tar(upper.get(), TreeKind::kLayer, out.get(), &deleted), "writable layer");
  spec::JsonWriter json;
  json.begin_array();
  for (const auto& path : deleted) json.string(path);
  json.end_array();
  return os::write_file_atomic(target.folder + "/deleted.files", json.take(), 0600);
}

Result<> Worker::write_shm() {
  step("write /dev/shm of the pod");
  BERTH_ASSIGN(const UniqueFd shm, os::open_file(shm_folder_, O_RDONLY | O_DIRECTORY), "open");
  BERTH_ASSIGN(const UniqueFd out, os::open_file(shm_file_, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600), "make");
  return write_tree_tar(shm.get(), TreeKind::kPlain, out.get(), nullptr);
}

Result<Subject> find_subject(const Pod& pod, const CheckpointTarget& target) {
  Subject subject;
  subject.target = target;
  for (const auto* path : {&target.folder, &target.upper}) {
    if (!path->starts_with('/')) return fail(Code::kInvalid, "path \"" + *path + "\" is not absolute");
  }
  BERTH_ASSIGN(subject.container, pod.find(target.container_id), "checkpoint");
  const Container& container = *subject.container;
  const std::string name = "container " + container.id;
  if (container.init.state != ProcessState::kRunning) return fail(Code::kPrecondition, name + " is not running");
  subject.engine = dynamic_cast<engine::process::ProcessContainer*>(container.engine.get());
  if (subject.engine == nullptr) {
    return fail(Code::kUnsupported, name + " is run by another engine than Berth's own, which cannot be checkpointed");
  }
  if (!container.own_pid_namespace) {
    return fail(Code::kUnsupported,
                name + " has no pid namespace of its own, in which its numbers would be free again");
  }
  if (container.init.io == nullptr) return fail(Code::kInternal, name + " has no streams");
  BERTH_ASSIGN(subject.streams, container.init.io->streams(), name);
  return subject;
}

}  // namespace

struct Checkpoints::Job {
  std::vector<Subject> subjects;
  pid_t worker = 0;
  UniqueFd worker_pidfd;
  UniqueFd channel;
  event::TimerId timer = event::kNoTimer;
  event::TimerId look = event::kNoTimer;  ///< whether anybody wants it
  bool timed_out = false;
  int exit_code = 0;
  Done done;

  /// What the worker has said by now: its last step, and the error that it ended with.
  struct Heard {
    std::string step;
    std::optional<Error> error;
    bool done = false;
  };
  [[nodiscard]] Heard hear() const {
    Heard heard;
    for (auto message = os::receive_message(channel.get()); message; message = os::receive_message(channel.get())) {
      if (message->kind == static_cast<std::uint32_t>(Word::kStep)) heard.step = message->text;
      if (message->kind == static_cast<std::uint32_t>(Word::kDone)) heard.done = true;
      if (message->kind != static_cast<std::uint32_t>(Word::kFailed)) continue;
      const bool known = message->code >= 0 && message->code <= static_cast<std::int32_t>(Code::kInternal);
      heard.error.emplace(known ? static_cast<Code>(message->code) : Code::kInternal, message->text,
                          message->errno_value);
    }
    return heard;
  }
  void kill() const {
    // The group first: of it, criu may outlive the worker that made it.
    ::kill(-worker, SIGKILL);
    ::kill(worker, SIGKILL);
  }
  void let_go() const {
    for (const auto& subject : subjects) {
      subject.container->checkpointing = false;
      if (subject.container->init.state == ProcessState::kStopped) continue;
      if (auto resumed = subject.engine->resume(); !resumed) {
        log_error("a container stays frozen", {{"container", subject.container->id}, {"err", resumed.error().text()}});
      }
    }
  }
};

Checkpoints::Checkpoints(Pod& pod) : pod_(pod) {}

Checkpoints::~Checkpoints() {
  if (!job_) return;
  job_->kill();
  pod_.loop().cancel(job_->timer);
  pod_.loop().cancel(job_->look);
  pod_.reaper().forget(job_->worker);
  job_->let_go();
}

Result<> Checkpoints::begin(const CheckpointParams& params, Job& job) const {
  if (params.targets.empty()) return fail(Code::kInvalid, "no containers");
  if (params.targets.size() > kMaxTargets) return fail(Code::kInvalid, "more than 1024 containers");
  std::set<std::string_view> seen;
  for (const auto& target : params.targets) {
    if (!seen.insert(target.container_id).second) {
      return fail(Code::kInvalid, "container " + target.container_id + " is named twice");
    }
    BERTH_ASSIGN(auto subject, find_subject(pod_, target), "checkpoint");
    job.subjects.push_back(std::move(subject));
  }
  if (!params.shm_file.empty() && !params.shm_file.starts_with('/')) {
    return fail(Code::kInvalid, "the file for /dev/shm is not an absolute path");
  }
  return {};
}

Result<> Checkpoints::start_worker(const CheckpointParams& params, Job& job) {
  BERTH_ASSIGN(auto pair, os::unix_socketpair(), "checkpoint");
  BERTH_ASSIGN(os::Cloned cloned, os::clone_process({}), "checkpoint");
  if (cloned.pid == 0) {
    pair.first.reset();
    Worker(job.subjects, pod_.options().folder + "/shm", params.shm_file, pair.second.get()).run();
  }
  job.worker = cloned.pid;
  job.worker_pidfd = std::move(cloned.pidfd);
  job.channel = std::move(pair.first);
  // The worker does the same; whoever comes first.
  ::setpgid(job.worker, job.worker);
  return {};
}

void Checkpoints::run(const CheckpointParams& params, Done done, Wanted wanted) {
  if (job_) return done(fail(Code::kUnavailable, "another checkpoint of the pod is being made"));
  auto job = std::make_unique<Job>();
  if (auto begun = begin(params, *job); !begun) return done(std::move(begun));
  for (const auto& subject : job->subjects) subject.container->checkpointing = true;
  if (auto started = start_worker(params, *job); !started) {
    job->let_go();
    return done(std::move(started));
  }
  job->done = std::move(done);
  if (params.timeout_ms != 0) {
    job->timer = pod_.loop().add_timer(std::chrono::milliseconds(std::min(params.timeout_ms, kMaxTimeoutMs)),
                                       [this] { give_up(true); });
  }
  job->look = pod_.loop().add_periodic(kWantedInterval, [this, wanted = std::move(wanted)] {
    if (!wanted()) give_up(false);
  });
  pod_.reaper().watch(job->worker, [this](int code) { ended(code); });
  job_ = std::move(job);
}

void Checkpoints::give_up(bool timed_out) {
  job_->timed_out = job_->timed_out || timed_out;
  job_->kill();
}

void Checkpoints::ended(int code) {
  pod_.loop().cancel(job_->timer);
  pod_.loop().cancel(job_->look);
  job_->exit_code = code;
  finish(kLastLooks);
}

/// A criu that outlives the worker may be about to freeze a container once more: it must be gone before they go on. As
/// long as it is there, the number of its group is no other's.
void Checkpoints::finish(int looks) {
  if (looks > 0 && ::kill(-job_->worker, SIGKILL) == 0) {
    job_->timer = pod_.loop().add_timer(kLookInterval, [this, looks] { finish(looks - 1); });
    return;
  }
  const auto job = std::exchange(job_, nullptr);
  const int code = job->exit_code;
  const auto heard = job->hear();
  job->let_go();
  crashpoint("shim.checkpoint.thawed");
  pod_.tidy_later();
  if (heard.done && code == 0) return job->done({});
  if (heard.error) return job->done(fail(*heard.error));
  if (job->timed_out) return job->done(fail(Code::kTimeout, "the time is over; step: " + heard.step));
  job->done(
      fail(Code::kInternal, "the checkpoint's worker ended with " + std::to_string(code) + "; step: " + heard.step));
}

}  // namespace berth::shim
