#include "event/loop.h"

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

namespace berth::event {
namespace {

constexpr std::size_t kEventsPerRound = 64;
// Cancelled timers still in the heap are swept out when they are the majority and at least this many.
constexpr std::size_t kSweepAt = 64;
// How soon a process that is gone but cannot be reaped yet (a tracer holds it) is looked at again.
constexpr auto kReapAgain = std::chrono::milliseconds(10);

constexpr std::uint32_t slot_of(std::uint64_t id) {
  return static_cast<std::uint32_t>(id);
}

}  // namespace

Result<std::unique_ptr<Loop>> Loop::create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno(errno, "epoll_create1");
  return std::unique_ptr<Loop>(new Loop(std::move(epoll)));
}

Loop::~Loop() {
  // A destructor of a capture may call remove() or cancel(): it finds empty tables, not half destroyed ones.
  const std::vector<Callback> posted = std::move(posted_);
  const std::vector<Timer> timers = std::move(timers_);
  const std::vector<std::unique_ptr<Watch>> watches = std::move(watches_);
  posted_.clear();
  timers_.clear();
  watches_.clear();
}

Loop::Watch* Loop::find(std::uint64_t id) {
  const std::uint32_t slot = slot_of(id);
  if (slot >= watches_.size() || !watches_[slot] || watches_[slot]->id != id) return nullptr;
  return watches_[slot].get();
}

Result<WatchId> Loop::insert(int fd, UniqueFd owned, std::uint32_t events, FdCallback callback) {
  std::size_t slot = 0;
  while (slot < watches_.size() && watches_[slot]) ++slot;
  const std::uint64_t id = static_cast<std::uint64_t>(++generation_) << 32 | slot;
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return fail_errno(errno, "epoll_ctl add fd " + std::to_string(fd));
  }
  if (slot == watches_.size()) watches_.emplace_back();
  watches_[slot] = std::make_unique<Watch>(Watch{id, fd, std::move(owned), std::move(callback)});
  return WatchId{id};
}

Result<WatchId> Loop::add_fd(int fd, std::uint32_t events, FdCallback callback) {
  return insert(fd, UniqueFd(), events, std::move(callback));
}

Result<> Loop::modify_fd(WatchId id, std::uint32_t events) {
  const Watch* watch = find(static_cast<std::uint64_t>(id));
  if (watch == nullptr) return fail(Code::kNotFound, "no such watch");
  epoll_event event{};
  event.events = events;
  event.data.u64 = watch->id;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, watch->fd, &event) != 0) {
    return fail_errno(errno, "epoll_ctl modify fd " + std::to_string(watch->fd));
  }
  return {};
}

void Loop::remove(WatchId id) {
  Watch* watch = find(static_cast<std::uint64_t>(id));
  if (watch == nullptr) return;
  // Also where the loop closes the descriptor: a duplicate elsewhere would keep it in the epoll set.
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, watch->fd, nullptr);
  watch->owned.reset();
  removed_.push_back(std::move(watches_[slot_of(watch->id)]));
}

Result<WatchId> Loop::watch_signals(std::initializer_list<int> signals, SignalCallback callback) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) {
    if (sigaddset(&set, signal) != 0) return fail_errno(errno, "sigaddset " + std::to_string(signal));
  }
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return fail_errno(error, "pthread_sigmask");
  }
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail_errno(errno, "signalfd");
  const int raw = fd.get();
  auto id = std::make_shared<std::uint64_t>(0);
  auto added = insert(raw, std::move(fd), EPOLLIN, [this, raw, id, callback = std::move(callback)](std::uint32_t) {
    read_signals(raw, callback, *id);
  });
  if (added) *id = static_cast<std::uint64_t>(*added);
  return added;
}

void Loop::read_signals(int fd, const SignalCallback& callback, std::uint64_t id) {
  signalfd_siginfo info;
  // One at a time: after the callback has removed its watch the descriptor is closed.
  while (find(id) != nullptr && ::read(fd, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) callback(info);
}

Result<WatchId> Loop::watch_process(UniqueFd pidfd, ExitCallback callback) {
  auto shared = std::make_shared<ExitCallback>(std::move(callback));
  auto id = std::make_shared<std::uint64_t>(0);
  const int raw = pidfd.get();
  // One-shot: a process that a tracer still holds would be reported in every round.
  auto added = insert(raw, std::move(pidfd), EPOLLIN | EPOLLONESHOT,
                      [this, id, shared](std::uint32_t) { process_ready(*id, shared); });
  if (added) *id = static_cast<std::uint64_t>(*added);
  return added;
}

void Loop::process_ready(std::uint64_t id, const std::shared_ptr<ExitCallback>& callback) {
  const Watch* watch = find(id);
  if (watch == nullptr) return;
  siginfo_t info{};
  int status = 0;
  do {
    status = ::waitid(P_PIDFD, static_cast<id_t>(watch->fd), &info, WEXITED | WNOHANG);
  } while (status != 0 && errno == EINTR);
  const int error = errno;
  if (status == 0 && info.si_pid == 0) {
    add_timer(kReapAgain, [this, id]() {
      ignore(modify_fd(WatchId{id}, EPOLLIN | EPOLLONESHOT), "the watch was removed meanwhile");
    });
    return;
  }
  remove(WatchId{id});
  if (status != 0) {
    const Error failure = errno_error(error, "waitid");
    (*callback)(fail(error == ECHILD ? Error(failure).as(Code::kNotFound) : failure));
    return;
  }
  (*callback)(ProcessExit{info.si_pid, info.si_code != CLD_EXITED, info.si_status});
}

Loop::Timer* Loop::find_timer(std::uint64_t id) {
  const std::uint32_t slot = slot_of(id);
  if (id == 0 || slot >= timers_.size() || timers_[slot].id != id) return nullptr;
  return &timers_[slot];
}

void Loop::schedule(SteadyTime when, std::uint64_t id) {
  heap_.push_back({when, id});
  std::push_heap(heap_.begin(), heap_.end(), [](const Due& a, const Due& b) { return a.when > b.when; });
}

TimerId Loop::insert_timer(Duration delay, Duration interval, Callback callback) {
  std::size_t slot = 0;
  while (slot < timers_.size() && timers_[slot].id != 0) ++slot;
  if (slot == timers_.size()) timers_.emplace_back();
  const std::uint64_t id = static_cast<std::uint64_t>(++generation_) << 32 | slot;
  timers_[slot] = Timer{id, interval, std::move(callback)};
  const SteadyTime now = std::chrono::steady_clock::now();
  // "Never" (Duration::max()) must not wrap around into the past.
  const bool beyond = delay > SteadyTime::max() - now;
  schedule(beyond ? SteadyTime::max() : now + std::chrono::duration_cast<SteadyTime::duration>(delay), id);
  return TimerId{id};
}

TimerId Loop::add_timer(Duration delay, Callback callback) {
  return insert_timer(std::max(delay, Duration::zero()), Duration::zero(), std::move(callback));
}

TimerId Loop::add_periodic(Duration interval, Callback callback) {
  const Duration bounded = std::max<Duration>(interval, std::chrono::milliseconds(1));
  return insert_timer(bounded, bounded, std::move(callback));
}

void Loop::free_timer(Timer& timer) {
  timer.id = 0;
  removed_callbacks_.push_back(std::move(timer.callback));
  timer.callback = nullptr;
}

void Loop::cancel(TimerId id) {
  Timer* timer = find_timer(static_cast<std::uint64_t>(id));
  if (timer == nullptr) return;
  free_timer(*timer);
  drop_stale_dues();
}

void Loop::drop_stale_dues() {
  if (heap_.size() < kSweepAt) return;
  const auto live = std::count_if(timers_.begin(), timers_.end(), [](const Timer& timer) { return timer.id != 0; });
  if (heap_.size() < 2 * static_cast<std::size_t>(live) + kSweepAt) return;
  std::erase_if(heap_, [this](const Due& due) { return find_timer(due.id) == nullptr; });
  std::make_heap(heap_.begin(), heap_.end(), [](const Due& a, const Due& b) { return a.when > b.when; });
}

void Loop::run_timers() {
  if (heap_.empty()) return;
  const SteadyTime now = std::chrono::steady_clock::now();
  // A timer that is added for "now" by a timer waits for the next round, so that descriptors get their turn.
  while (!heap_.empty() && heap_.front().when <= now && !stopping_) {
    std::pop_heap(heap_.begin(), heap_.end(), [](const Due& a, const Due& b) { return a.when > b.when; });
    const Due due = heap_.back();
    heap_.pop_back();
    Timer* timer = find_timer(due.id);
    if (timer == nullptr) continue;
    // The callback is moved out while it runs: it may grow timers_ or cancel itself.
    Callback callback = std::move(timer->callback);
    const Duration interval = timer->interval;
    if (interval == Duration::zero()) free_timer(*timer);
    callback();
    if (interval == Duration::zero()) continue;
    timer = find_timer(due.id);
    if (timer == nullptr) continue;
    timer->callback = std::move(callback);
    const auto step = std::chrono::duration_cast<SteadyTime::duration>(interval);
    schedule(due.when + step > now ? due.when + step : now + step, due.id);
  }
}

void Loop::post(Callback function) {
  posted_.push_back(std::move(function));
}

void Loop::run_posted() {
  posting_.swap(posted_);
  for (std::size_t i = 0; i < posting_.size(); ++i) {
    if (stopping_) {
      // What stop() overtook stays posted, in order, for a later run.
      posted_.insert(posted_.begin(), std::make_move_iterator(posting_.begin() + static_cast<std::ptrdiff_t>(i)),
                     std::make_move_iterator(posting_.end()));
      break;
    }
    posting_[i]();
  }
  posting_.clear();
}

int Loop::wait_ms(std::optional<Duration> timeout) {
  using std::chrono::milliseconds;
  if (!posted_.empty()) return 0;
  while (!heap_.empty() && find_timer(heap_.front().id) == nullptr) {
    std::pop_heap(heap_.begin(), heap_.end(), [](const Due& a, const Due& b) { return a.when > b.when; });
    heap_.pop_back();
  }
  std::optional<Duration> wait = timeout;
  if (!heap_.empty() && heap_.front().when != SteadyTime::max()) {
    const Duration left = heap_.front().when - std::chrono::steady_clock::now();
    wait = wait ? std::min(*wait, left) : left;
  }
  if (!wait) return -1;
  // A day is as good as any longer time: the loop looks again.
  const auto bounded = std::clamp<Duration>(*wait, Duration::zero(), std::chrono::hours(24));
  return static_cast<int>(std::chrono::ceil<milliseconds>(bounded).count());
}

Result<> Loop::run_once(std::optional<Duration> timeout) {
  std::array<epoll_event, kEventsPerRound> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), wait_ms(timeout));
  if (count < 0 && errno != EINTR) return fail_errno(errno, "epoll_wait");
  for (int i = 0; i < count && !stopping_; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    if (Watch* watch = find(event.data.u64); watch != nullptr) watch->callback(event.events);
  }
  if (!stopping_) run_timers();
  if (!stopping_) run_posted();
  // A destructor of a capture may call remove(): keep the tables consistent while they are emptied.
  std::vector<std::unique_ptr<Watch>> watches;
  std::vector<Callback> callbacks;
  if (!removed_.empty()) watches.swap(removed_);
  if (!removed_callbacks_.empty()) callbacks.swap(removed_callbacks_);
  return {};
}

Result<> Loop::run() {
  while (!stopping_) {
    if (auto round = run_once(std::nullopt); !round) return round;
  }
  stopping_ = false;
  return {};
}

}  // namespace berth::event
