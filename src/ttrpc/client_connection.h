#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "base/unique_fd.h"
#include "event/loop.h"
#include "ttrpc/client.h"
#include "ttrpc/frame.h"
#include "ttrpc/reactor.h"
#include "ttrpc/send_queue.h"

namespace berth::ttrpc {

/// The state of a Client; private to the library. Lives as long as its client, a call on it, or its watch. Functions
/// marked "reactor" belong to the reactor's thread, the others are thread-safe. No callback runs while mutex_ is held.
class ClientConnection final : public std::enable_shared_from_this<ClientConnection> {
 public:
  ClientConnection(Reactor& reactor, UniqueFd socket, ClientOptions options);

  /// Registers with the reactor; called once.
  void start();
  /// Sends a request. `callback` gets the result on the reactor's thread, if a stream id is returned; else it never
  /// runs.
  [[nodiscard]] Result<std::uint32_t> begin(std::string_view service, std::string_view method, std::string_view payload,
                                            const CallOptions& options, Client::Callback callback)
      BERTH_EXCLUDES(mutex_);
  /// Makes the reactor fail call `id` with kTimeout at `deadline`.
  void arm(std::uint32_t id, SteadyTime deadline);
  /// Takes back a call whose callback has not been taken for running; false: it has run, runs, or will at once.
  bool abandon(std::uint32_t id) BERTH_EXCLUDES(mutex_);
  /// Runs the callback of `id` with `error` on the reactor's thread, if it is still waiting.
  void give_up(std::uint32_t id, Error error);
  void close() BERTH_EXCLUDES(mutex_);
  [[nodiscard]] bool alive() BERTH_EXCLUDES(mutex_);
  [[nodiscard]] Reactor& reactor() { return reactor_; }

 private:
  struct Pending {
    Client::Callback callback;
    event::TimerId timer{};  // reactor
  };

  void ready(std::uint32_t events);                             // reactor
  void read_ready();                                            // reactor
  void answer(const Frame& frame) BERTH_EXCLUDES(mutex_);       // reactor
  void disconnect(const Error& reason) BERTH_EXCLUDES(mutex_);  // reactor
  void watch_output() BERTH_EXCLUDES(mutex_);                   // reactor
  std::optional<Pending> take(std::uint32_t id) BERTH_EXCLUDES(mutex_);
  void finish(Pending pending, Result<std::string> result);  // reactor

  Reactor& reactor_;
  const UniqueFd fd_;
  const ClientOptions options_;
  event::WatchId watch_{};     // reactor
  FrameDecoder decoder_;       // reactor
  bool disconnected_ = false;  // reactor

  Mutex mutex_;
  std::optional<Error> ended_ BERTH_GUARDED_BY(mutex_);
  std::uint32_t next_id_ BERTH_GUARDED_BY(mutex_) = 1;
  std::unordered_map<std::uint32_t, Pending> pending_ BERTH_GUARDED_BY(mutex_);
  SendQueue queue_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::ttrpc
