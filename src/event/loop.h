#pragma once
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/types.h>

#include <chrono>
#include <compare>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace berth::event {

/// Names one watch or timer of one Loop. Never used again for another one, so a stale id is harmless. 0 names none.
enum class WatchId : std::uint64_t {};
enum class TimerId : std::uint64_t {};
inline constexpr WatchId kNoWatch{0};
inline constexpr TimerId kNoTimer{0};

/// How a watched process ended.
struct ProcessExit {
  pid_t pid = 0;
  bool signaled = false;  ///< `value` is the signal; otherwise it is the exit code
  int value = 0;
  /// The exit code that a shell, a kubelet and runc report: 128 + signal for a killed process.
  [[nodiscard]] int shell_code() const { return signaled ? 128 + value : value; }
  auto operator<=>(const ProcessExit&) const = default;
};

/// A single-threaded level-triggered epoll loop: descriptors, timers, signals, child processes, posted functions.
/// Everything, the destructor too, belongs to the thread that runs the loop (or to no running one); a loop on another
/// thread is woken through a descriptor. Callbacks may add and remove anything, themselves included, and may call
/// stop(); a callback whose watch has been removed is not called any more, not even for an event that was already
/// fetched. The callback's captures stay alive until it has returned. Callbacks must not throw.
class Loop final {
 public:
  using FdCallback = std::function<void(std::uint32_t epoll_events)>;
  using Callback = std::function<void()>;
  using SignalCallback = std::function<void(const signalfd_siginfo& info)>;
  using ExitCallback = std::function<void(const Result<ProcessExit>& exit)>;
  using Duration = std::chrono::nanoseconds;

  /// Errors: by errno of epoll_create1(2).
  [[nodiscard]] static Result<std::unique_ptr<Loop>> create();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  Loop(Loop&&) = delete;
  Loop& operator=(Loop&&) = delete;

  /// Calls `callback` while `fd` has one of `events` (EPOLLIN, EPOLLOUT...; EPOLLERR and EPOLLHUP come unasked; 0 is
  /// allowed). Borrows `fd`, which stays open until the watch is removed. Errors: kExists watched already; kDenied a
  /// file that epoll cannot watch; else by errno of epoll_ctl(2).
  [[nodiscard]] Result<WatchId> add_fd(int fd, std::uint32_t events, FdCallback callback);
  /// Changes the events of a watch. Errors: kNotFound no such watch; else by errno.
  [[nodiscard]] Result<> modify_fd(WatchId id, std::uint32_t events);
  /// Ends a watch of any kind and closes the descriptor if the loop owns it (signals, processes). Unknown ids are
  /// ignored.
  void remove(WatchId id);

  /// Calls `callback` once, not before `delay` has passed (at once in the next round if negative). Millisecond grain,
  /// rounded up.
  TimerId add_timer(Duration delay, Callback callback);
  /// Calls `callback` every `interval` (at least 1 ms), first after one interval. Ticks missed by a busy loop are not
  /// made up.
  TimerId add_periodic(Duration interval, Callback callback);
  /// Unknown ids are ignored.
  void cancel(TimerId id);

  /// Blocks `signals` in the calling thread and delivers them to `callback`. They stay blocked when the watch is
  /// removed, so that one which arrives later does not kill the process; a child must reset its mask. Source:
  /// signalfd(2).
  [[nodiscard]] Result<WatchId> watch_signals(std::initializer_list<int> signals, SignalCallback callback);

  /// Reaps the child process behind `pidfd` when it ends and calls `callback` once; the watch is gone by then.
  /// Takes `pidfd`. The callback gets kNotFound when the process is not our child or was reaped by somebody else.
  /// Source: waitid(2) P_PIDFD.
  [[nodiscard]] Result<WatchId> watch_process(UniqueFd pidfd, ExitCallback callback);

  /// Runs `function` in the next round of the loop, after the callbacks of this one, in the order of posting.
  void post(Callback function);

  /// Runs until stop(). Errors: by errno of epoll_wait(2).
  [[nodiscard]] Result<> run();
  /// One round: waits for the first event at most `timeout` (without one: as long as it takes), then runs what is due.
  [[nodiscard]] Result<> run_once(std::optional<Duration> timeout);
  /// Makes run() return after the current callback; before run(), makes it return at once. A stopped loop runs no
  /// callback until run() has returned.
  void stop() { stopping_ = true; }

 private:
  struct Watch {
    std::uint64_t id = 0;
    int fd = -1;
    UniqueFd owned;
    FdCallback callback;
  };
  struct Timer {
    std::uint64_t id = 0;  // 0: the slot is free
    Duration interval{};   // 0: one-shot
    Callback callback;
  };
  struct Due {
    SteadyTime when;
    std::uint64_t id;
  };

  explicit Loop(UniqueFd epoll) : epoll_(std::move(epoll)) {}
  Result<WatchId> insert(int fd, UniqueFd owned, std::uint32_t events, FdCallback callback);
  Watch* find(std::uint64_t id);
  Timer* find_timer(std::uint64_t id);
  TimerId insert_timer(Duration delay, Duration interval, Callback callback);
  void free_timer(Timer& timer);
  void schedule(SteadyTime when, std::uint64_t id);
  void drop_stale_dues();
  int wait_ms(std::optional<Duration> timeout);
  void read_signals(int fd, const SignalCallback& callback, std::uint64_t id);
  void process_ready(std::uint64_t id, const std::shared_ptr<ExitCallback>& callback);
  void run_timers();
  void run_posted();

  UniqueFd epoll_;
  bool stopping_ = false;
  std::uint32_t generation_ = 0;
  // Ids are generation << 32 | slot. Watches live on the heap, so a callback may grow the table below itself.
  std::vector<std::unique_ptr<Watch>> watches_;
  std::vector<std::unique_ptr<Watch>> removed_;  // freed at the end of the round, when none of them can be running
  std::vector<Timer> timers_;
  std::vector<Callback> removed_callbacks_;  // the same for timers
  std::vector<Due> heap_;                    // min-heap by time; cancelled ids stay until they come up or pile up
  std::vector<Callback> posted_;
  std::vector<Callback> posting_;
};

}  // namespace berth::event
