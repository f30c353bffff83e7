#pragma once
#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "event/loop.h"
#include "shim/scratch.h"

namespace berth::shim {

/// Copies from one descriptor to another that may be slow (a FIFO and a terminal, either way). While the receiver is
/// full the sender is not read, so nothing is lost and nothing piles up. Ends when either side does.
class Relay final {
 public:
  /// Makes both non-blocking. Takes both; they must not be watched elsewhere. Errors: by errno.
  [[nodiscard]] static Result<std::unique_ptr<Relay>> start(event::Loop& loop, Scratch& scratch, UniqueFd from,
                                                            UniqueFd to);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  Relay(Relay&&) = delete;
  Relay& operator=(Relay&&) = delete;

  /// Moves what is there and what the receiver takes without waiting, at most about `limit` bytes.
  void drain(std::size_t limit);

 private:
  Relay(event::Loop& loop, Scratch& scratch, UniqueFd from, UniqueFd to)
      : loop_(loop), scratch_(scratch), from_(std::move(from)), to_(std::move(to)) {}
  std::size_t move_some();
  void send_pending();
  void wait_for_room();
  void end();

  event::Loop& loop_;
  Scratch& scratch_;
  UniqueFd from_;
  UniqueFd to_;
  event::WatchId from_watch_ = event::kNoWatch;
  event::WatchId to_watch_ = event::kNoWatch;
  std::string pending_;  // what the receiver did not take; no memory when empty
};

}  // namespace berth::shim
