#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "event/loop.h"
#include "ttrpc/frame.h"
#include "ttrpc/typed.h"

namespace berth::shim::foreign {

/// A ttrpc connection to a shim that is not ours, for a process of one thread: calls that wait, with a time limit, and
/// calls whose answer comes through the loop. Loop thread only; no callback runs inside one of its functions.
///
/// Errors of a call: what the shim answered; kTimeout, kUnavailable the connection has ended, kCorrupt an answer that
/// cannot be read. Each names the shim and the call.
class Link final : public std::enable_shared_from_this<Link> {
 public:
  using Callback = std::function<void(Result<std::string> payload)>;
  using OnEnd = std::function<void(const Error& reason)>;

  /// Takes a connected, blocking socket. `name`: of the shim, for errors. `on_end` runs once, from the loop, when the
  /// connection has ended by itself; not after close().
  [[nodiscard]] static Result<std::shared_ptr<Link>> start(event::Loop& loop, UniqueFd socket, std::string name,
                                                           std::string service, OnEnd on_end);
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  Link(Link&&) = delete;
  Link& operator=(Link&&) = delete;
  ~Link();

  /// Blocks. After a call that was not answered in time the next ones wait a second only, until the shim says something
  /// again: who waits for a hung shim is told soon.
  [[nodiscard]] Result<std::string> call(std::string_view method, std::string_view payload,
                                         std::chrono::milliseconds limit);
  /// `callback` runs once, from the loop; never after close(). It has no time limit.
  void call_later(std::string_view method, std::string_view payload, Callback callback);
  /// Ends the connection; nobody is called any more.
  void close();
  [[nodiscard]] bool alive() const { return !ended_; }

  /// call() with messages.
  template <ttrpc::Message Reply, ttrpc::Message Request>
  [[nodiscard]] Result<Reply> ask(std::string_view method, const Request& request, std::chrono::milliseconds limit) {
    BERTH_ASSIGN(const std::string bytes, ttrpc::to_bytes(request), method);
    auto answer = call(method, bytes, limit);
    if (!answer) return fail(std::move(answer).error());
    auto reply = ttrpc::from_bytes<Reply>(*answer, Code::kCorrupt);
    if (!reply) return fail(std::move(reply).error().in(step(method)));
    return reply;
  }

 private:
  struct Pending {
    Callback callback;  // empty: call() waits
    std::optional<Result<std::string>> answer;
  };

  Link(event::Loop& loop, UniqueFd socket, std::string name, std::string service, OnEnd on_end);
  [[nodiscard]] std::string step(std::string_view method) const;
  Result<std::uint32_t> send(std::string_view method, std::string_view payload, Callback callback,
                             std::chrono::nanoseconds limit);
  void read_ready();
  void answer(const ttrpc::Frame& frame);
  void end(const Error& reason);

  event::Loop& loop_;
  UniqueFd socket_;
  std::string name_;
  std::string service_;
  OnEnd on_end_;
  event::WatchId watch_{};
  ttrpc::FrameDecoder decoder_;
  std::map<std::uint32_t, Pending> pending_;
  std::uint32_t next_id_ = 1;
  bool hung_ = false;
  bool closed_ = false;
  std::optional<Error> ended_;
};

}  // namespace berth::shim::foreign
