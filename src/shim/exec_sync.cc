#include "shim/exec_sync.h"

#include <algorithm>
#include <chrono>
#include <csignal>

#include "base/log.h"
#include "os/file.h"
#include "os/pidfd.h"

namespace berth::shim {
namespace {

// What is read of a pipe once its process has ended: what the pipe can hold, and what other holders add meanwhile.
constexpr std::size_t kDrainLimit = 1U << 20;
constexpr std::chrono::minutes kKeepFor{1};
constexpr std::size_t kMaxKept = 4;
// A killed process can take its time (a dead NFS server); the caller is told without it.
constexpr std::chrono::seconds kKillGrace{2};
constexpr std::chrono::milliseconds kClearInterval{20};
constexpr int kClearTries = 50;
// More than one, so that the waiting ones become fewer while each command leaves one more.
constexpr std::size_t kSweepAtOnce = 4;

}  // namespace

void Capture::write(std::string_view bytes) {
  const std::size_t room = limit_ - kept_.size();
  truncated_ = truncated_ || bytes.size() > room;
  kept_.append(bytes.substr(0, room));
}

struct ExecSync::Job {
  Job(std::size_t limit, Done callback) : out(limit), err(limit), done(std::move(callback)) {}

  std::weak_ptr<Container> owner;
  std::string sub_cgroup;  // empty: it shares the container's
  pid_t pid = 0;
  UniqueFd pidfd;
  Capture out;
  Capture err;
  std::unique_ptr<Pump> out_pump;  // after the captures, which they write to
  std::unique_ptr<Pump> err_pump;
  event::TimerId timer = event::kNoTimer;
  bool timed_out = false;
  Done done;
};

ExecSync::ExecSync(Pod& pod) : pod_(pod) {}

ExecSync::~ExecSync() {
  for (const auto& [number, job] : jobs_) {
    pod_.loop().cancel(job->timer);
    pod_.reaper().forget(job->pid);
  }
  for (const auto& [token, kept] : kept_) pod_.loop().cancel(kept.timer);
}

void ExecSync::run(const ExecSyncParams& params, Done done) {
  if (jobs_.size() >= kMaxJobs) return done(fail(Code::kExhausted, "too many commands are running in the pod"));
  const std::uint64_t limit =
      params.output_limit_bytes == 0 ? kOutputLimit : std::min(params.output_limit_bytes, kOutputLimit);
  auto job = std::make_unique<Job>(limit, std::move(done));
  const std::uint64_t number = ++last_number_;
  // Only a command with a timeout needs a cgroup to be killed by.
  if (params.timeout_ms != 0) job->sub_cgroup = "exec-" + std::to_string(number);
  if (auto begun = begin(params, *job); !begun) {
    clear_cgroup(job->owner, job->sub_cgroup, true, kClearTries);
    return job->done(fail(std::move(begun).error().in("exec in container " + params.container_id)));
  }
  if (params.timeout_ms != 0) {
    job->timer =
        pod_.loop().add_timer(std::chrono::milliseconds(std::min<std::uint64_t>(params.timeout_ms, 1ULL << 40)),
                              [this, number] { timed_out(number); });
  }
  pod_.reaper().watch(job->pid, [this, number](int code) { ended(number, code); });
  jobs_.emplace(number, std::move(job));
}

Result<> ExecSync::begin(const ExecSyncParams& params, Job& job) {
  BERTH_ASSIGN(const std::shared_ptr<Container> container, pod_.find(params.container_id), "exec");
  BERTH_ASSIGN(spec::Process process, spec::parse_process(params.process_json), "process");
  if (process.terminal) return fail(Code::kInvalid, "process.terminal: a command with collected output has none");
  BERTH_TRY(spec::validate(process), "process");
  BERTH_ASSIGN(os::Pipe out, os::make_pipe(), "stdout");
  BERTH_ASSIGN(os::Pipe err, os::make_pipe(), "stderr");
  for (const int fd : {out.write.get(), err.write.get()}) BERTH_TRY(give_stream(pod_.options().root, fd), "output");
  job.owner = container;
  auto made = pod_.run_in(*container, process, {-1, out.write.get(), err.write.get()}, job.sub_cgroup);
  if (!made) {
    const Code code = made.error().code();
    const bool program = code == Code::kNotFound || code == Code::kDenied;
    return program ? fail(std::move(made).error().as(Code::kInvalid)) : fail(std::move(made).error());
  }
  job.pid = made->pid;
  job.pidfd = std::move(made->pidfd);
  auto out_pump = Pump::start(pod_.loop(), pod_.scratch(), std::move(out.read), job.out);
  auto err_pump = Pump::start(pod_.loop(), pod_.scratch(), std::move(err.read), job.err);
  if (!out_pump || !err_pump) {
    ignore(os::pidfd_signal(job.pidfd.get(), SIGKILL), "it may have ended");
    return fail(out_pump ? std::move(err_pump).error() : std::move(out_pump).error());
  }
  job.out_pump = std::move(*out_pump);
  job.err_pump = std::move(*err_pump);
  return {};
}

void ExecSync::timed_out(std::uint64_t number) {
  Job& job = *jobs_.at(number);
  job.timed_out = true;
  ignore(os::pidfd_signal(job.pidfd.get(), SIGKILL), "it may have ended just now");
  clear_cgroup(job.owner, job.sub_cgroup, true, kClearTries);
  job.timer = pod_.loop().add_timer(kKillGrace, [this, number] {
    pod_.reaper().forget(jobs_.at(number)->pid);
    jobs_.at(number)->timer = event::kNoTimer;
    finish(number, 128 + SIGKILL);
  });
}

void ExecSync::ended(std::uint64_t number, int code) {
  const auto found = jobs_.find(number);
  if (found == jobs_.end()) return;
  Job& job = *found->second;
  pod_.loop().cancel(job.timer);
  sweep();
  // After a timeout somebody clears the cgroup already.
  if (!job.timed_out) clear_cgroup(job.owner, job.sub_cgroup, false, 0);
  finish(number, code);
}

void ExecSync::finish(std::uint64_t number, int code) {
  const auto found = jobs_.find(number);
  const std::unique_ptr<Job> job = std::move(found->second);
  jobs_.erase(found);
  job->out_pump->drain(kDrainLimit);
  job->err_pump->drain(kDrainLimit);
  ExecSyncResult result;
  result.exit_code = code;
  result.timed_out = job->timed_out;
  result.out_truncated = job->out.truncated();
  result.err_truncated = job->err.truncated();
  result.out = job->out.take();
  result.err = job->err.take();
  result.out_size = result.out.size();
  result.err_size = result.err.size();
  if (result.out.size() + result.err.size() > kInlineBytes) keep(result);
  pod_.tidy_later();
  job->done(std::move(result));
}

void ExecSync::keep(ExecSyncResult& result) {
  if (kept_.size() >= kMaxKept) {
    pod_.loop().cancel(kept_.begin()->second.timer);
    kept_.erase(kept_.begin());
  }
  const std::uint64_t token = ++last_number_;
  Kept& kept = kept_[token];
  kept.out = std::move(result.out);
  kept.err = std::move(result.err);
  kept.timer = pod_.loop().add_timer(kKeepFor, [this, token] {
    kept_.erase(token);
    pod_.tidy_later();
  });
  result.token = token;
  result.out = kept.out.substr(0, kInlineBytes / 2);
  result.err = kept.err.substr(0, kInlineBytes / 2);
}

Result<std::string> ExecSync::read(std::uint64_t token, bool err, std::uint64_t offset, std::uint64_t length,
                                   bool release) {
  const auto found = kept_.find(token);
  if (found == kept_.end()) return fail(Code::kNotFound, "the output was released");
  const std::string& text = err ? found->second.err : found->second.out;
  std::string part;
  if (offset < text.size()) part = text.substr(offset, std::min<std::uint64_t>(length, kInlineBytes));
  pod_.loop().cancel(found->second.timer);
  if (release) {
    kept_.erase(found);
    pod_.tidy_later();
  } else {
    found->second.timer = pod_.loop().add_timer(kKeepFor, [this, token] {
      kept_.erase(token);
      pod_.tidy_later();
    });
  }
  return part;
}

void ExecSync::clear_cgroup(std::weak_ptr<Container> owner, std::string sub_cgroup, bool kill_rest, int tries) {
  const std::shared_ptr<Container> container = owner.lock();
  // What has no cgroup of its own goes with the container.
  if (container == nullptr || sub_cgroup.empty()) return;
  const auto gone = container->engine->end_exec(sub_cgroup, kill_rest);
  if (!gone) {
    log_debug("cgroup of a command stays", {{"container", container->id}, {"err", gone.error().text()}});
    return;
  }
  if (*gone) return;
  if (tries == 0) {
    std::erase_if(lingering_, [](const Lingering& group) { return group.owner.expired(); });
    lingering_.push_back({std::move(owner), std::move(sub_cgroup), kill_rest});
    return;
  }
  pod_.loop().add_timer(kClearInterval, [this, owner = std::move(owner), sub = std::move(sub_cgroup), kill_rest,
                                         tries] { clear_cgroup(owner, sub, kill_rest, tries - 1); });
}

void ExecSync::sweep() {
  for (std::size_t left = std::min(lingering_.size(), kSweepAtOnce); left > 0; --left) {
    Lingering group = std::move(lingering_.front());
    lingering_.pop_front();
    clear_cgroup(std::move(group.owner), std::move(group.sub_cgroup), group.kill_rest, 0);  // back in line when busy
  }
}

}  // namespace berth::shim
