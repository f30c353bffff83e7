#include "cri/operation.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "base/log.h"

namespace berth::cri {

namespace {

using std::chrono::steady_clock;

// How often a waiting call looks whether its client is still there.
constexpr std::chrono::milliseconds kStopPoll{500};

// Of one operation in its timeline: a sandbox with many containers has more than is worth reading.
constexpr std::size_t kMaxSteps = 64;

std::int64_t micros_since(SteadyTime since) {
  return std::chrono::duration_cast<std::chrono::microseconds>(steady_clock::now() - since).count();
}

std::string seconds_text(SteadyTime since) {
  const auto passed = std::chrono::duration_cast<std::chrono::seconds>(steady_clock::now() - since).count();
  return std::to_string(passed) + " s";
}

Result<std::string> run_guarded(const Operations::Body& body, Operation& operation) {
  try {
    return body(operation);
  } catch (const std::exception& error) {
    return fail(Code::kInternal, operation.title() + ": " + error.what());
  } catch (...) {
    return fail(Code::kInternal, operation.title() + ": unknown exception");
  }
}

}  // namespace

std::string Operation::current_step() const {
  MutexLock lock(mutex_);
  if (active_.empty()) return "step: none yet";
  const auto oldest =
      std::ranges::min_element(active_, [](const Active& a, const Active& b) { return a.since < b.since; });
  return "step: " + oldest->name + ", " + seconds_text(oldest->since);
}

unsigned Operation::enter(std::string name) {
  MutexLock lock(mutex_);
  active_.push_back({next_id_, std::move(name), steady_clock::now()});
  return next_id_++;
}

void Operation::leave(unsigned id, TimelineEntry entry) {
  MutexLock lock(mutex_);
  std::erase_if(active_, [id](const Active& active) { return active.id == id; });
  if (steps_.size() < kMaxSteps) steps_.push_back(std::move(entry));
}

void Operation::about(std::string sandbox_id, std::string container_id) {
  MutexLock lock(mutex_);
  sandbox_id_ = std::move(sandbox_id);
  container_id_ = std::move(container_id);
}

Stage::Stage(Operation& operation, std::string_view name, std::string_view object)
    : operation_(operation), name_(name), since_(steady_clock::now()), at_ns_(wall_now_ns()) {
  if (!object.empty()) name_.append(" ").append(object);
  id_ = operation_.enter(name_);
}

Stage::~Stage() {
  const auto us = micros_since(since_);
  operation_.leave(id_, {.at_ns = at_ns_, .took_us = us, .operation = operation_.title(), .step = name_, .error = {}});
  if (log_level() != LogLevel::kDebug) return;
  log_debug("stage", {{"operation", operation_.title()}, {"stage", name_}, {"us", us}});
}

std::shared_ptr<Operation> Operations::join_or_start(const std::string& key, const std::string& title, Body body) {
  std::shared_ptr<Operation> operation;
  {
    MutexLock lock(mutex_);
    if (const auto found = running_.find(key); found != running_.end()) return found->second;
    operation = std::make_shared<Operation>(title);
    running_.emplace(key, operation);
  }
  workers_.post([this, key, operation, body = std::move(body)] {
    auto result = run_guarded(body, *operation);
    if (!result) log_debug("operation failed", {{"operation", operation->title()}, {"err", result.error().text()}});
    {
      // First off the list, then done: who asks after the answer must not join what is over.
      MutexLock lock(mutex_);
      running_.erase(key);
    }
    finish(*operation, std::move(result));
  });
  return operation;
}

/// Whoever waits is answered first; what is noted is not in his way.
void Operations::finish(Operation& operation, Result<std::string> result) {
  std::vector<TimelineEntry> entries;
  std::string sandbox;
  std::string container;
  {
    MutexLock lock(operation.mutex_);
    entries = std::move(operation.steps_);
    sandbox = operation.sandbox_id_;
    container = operation.container_id_;
    entries.push_back({.at_ns = operation.at_ns_,
                       .took_us = micros_since(operation.since_),
                       .operation = operation.title_,
                       .step = {},
                       .error = result ? std::string() : result.error().text()});
    operation.result_ = std::move(result);
    operation.done_.notify_all();
  }
  if (timelines_ != nullptr && !sandbox.empty()) timelines_->note(sandbox, container, std::move(entries));
}

Result<std::string> Operations::run(const std::string& key, const std::string& title, const Call& call, Body body) {
  const auto operation = join_or_start(key, title, std::move(body));
  MutexLock lock(operation->mutex_);
  while (!operation->result_) {
    const auto now = steady_clock::now();
    if (now >= call.deadline || call.stop.stop_requested()) {
      const bool timed_out = now >= call.deadline;
      lock.unlock();
      const auto text = title + ": " + operation->current_step();
      lock.lock();
      if (operation->result_) break;
      if (timed_out) return fail(Code::kTimeout, text + "; the work goes on, a retry joins it");
      return fail(Code::kCancelled, text + "; the caller has gone, the work goes on");
    }
    operation->done_.wait_until(lock, std::min(call.deadline, now + kStopPoll));
  }
  return *operation->result_;
}

void Operations::start(const std::string& key, const std::string& title, Body body) {
  join_or_start(key, title, std::move(body));
}

void OperationLock::lock(Operation& operation) {
  std::optional<Stage> stage;
  MutexLock lock(mutex_);
  const auto ticket = next_ticket_++;
  if (serving_ != ticket) stage.emplace(operation, "wait for", holder_);
  while (serving_ != ticket) free_.wait(lock);
  holder_ = operation.title();
}

void OperationLock::unlock() {
  MutexLock lock(mutex_);
  ++serving_;
  holder_.clear();
  free_.notify_all();
}

}  // namespace berth::cri
