#pragma once
#include <cstddef>
#include <memory>

#include "base/result.h"
#include "base/unique_fd.h"
#include "event/loop.h"
#include "shim/scratch.h"
#include "shim/sink.h"

namespace berth::shim {

/// Moves what comes out of a pipe or terminal into a sink, whenever something is there. Never waits: a process that
/// keeps the other end open without writing costs nothing and holds up nobody.
class Pump final {
 public:
  /// Makes `source` non-blocking and watches it. `loop`, `scratch` and `sink` outlive this. Errors: by errno.
  [[nodiscard]] static Result<std::unique_ptr<Pump>> start(event::Loop& loop, Scratch& scratch, UniqueFd source,
                                                           Sink& sink);
  ~Pump();
  Pump(const Pump&) = delete;
  Pump& operator=(const Pump&) = delete;
  Pump(Pump&&) = delete;
  Pump& operator=(Pump&&) = delete;

  /// Takes what is there now, at most about `limit` bytes (whoever writes faster than we read must not hold us), then
  /// flushes the sink. The source stays watched unless it has ended.
  void drain(std::size_t limit);
  /// What a pipe holds at most, once its writer has nearly filled it (PIPE_MAX_SIZE: /proc/sys/fs/pipe-max-size as
  /// it comes).
  static constexpr std::size_t kWidePipe = 1U << 20;
  /// Where it reads from; -1 when that has ended.
  [[nodiscard]] int source() const { return source_.get(); }
  /// Nobody holds the other end any more.
  [[nodiscard]] bool ended() const { return !source_.valid(); }

 private:
  Pump(event::Loop& loop, Scratch& scratch, UniqueFd source, Sink& sink)
      : loop_(loop), scratch_(scratch), source_(std::move(source)), sink_(sink) {}
  std::size_t read_once();
  void widen();
  void end();

  event::Loop& loop_;
  Scratch& scratch_;
  UniqueFd source_;
  Sink& sink_;
  event::WatchId watch_ = event::kNoWatch;
  bool widened_ = false;
};

}  // namespace berth::shim
