#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "event/loop.h"

namespace berth::ttrpc {

class ServerConnection;

/// The right and the duty to answer one call, now or hours later, on the loop's thread. Exactly one answer is sent: one
/// destroyed without an answer says kInternal. Answers to a connection that is gone vanish. May outlive the server.
class Responder final {
 public:
  Responder(std::weak_ptr<ServerConnection> connection, std::uint32_t stream_id, std::optional<SteadyTime> deadline)
      : connection_(std::move(connection)), stream_id_(stream_id), deadline_(deadline) {}
  Responder(Responder&& other) noexcept;
  Responder& operator=(Responder&& other) noexcept;
  Responder(const Responder&) = delete;
  Responder& operator=(const Responder&) = delete;
  ~Responder();

  /// Answers with a serialized message. One over kMaxData becomes the error kExhausted.
  void ok(std::string_view payload);
  void error(const Error& error);
  /// Either of the two.
  void respond(const Result<std::string>& result);

  /// False when nobody would get the answer any more: the connection is gone or the answer was given.
  [[nodiscard]] bool wanted() const;
  /// When the caller stops waiting, if it said so. The server does not act on it.
  [[nodiscard]] std::optional<SteadyTime> deadline() const { return deadline_; }

 private:
  std::weak_ptr<ServerConnection> connection_;
  std::uint32_t stream_id_ = 0;  // 0: answered
  std::optional<SteadyTime> deadline_;
};

struct ServerOptions {
  /// Only processes with our effective uid may call; others are disconnected at once.
  bool require_same_user = true;
  std::size_t max_connections = 256;  ///< further ones are closed at once
  std::size_t max_in_flight = 4096;   ///< unanswered calls of one connection; further ones get kExhausted
  /// Unsent bytes of one connection. One that lets more pile up is closed with kExhausted.
  std::size_t max_queue_bytes = 8U << 20;
  /// Called when a connection ends for another reason than its peer's closing it: kInvalid no ttrpc; kExhausted queue
  /// or connection limit; kDenied another user; else by errno. For a log line.
  std::function<void(const Error& reason)> on_connection_error;
};

/// Serves unary ttrpc calls on an event loop: never blocks, any number of connections, nothing allocated for an idle
/// one but its state. Loop thread only. The loop must outlive the server. A bad connection is closed and never ends the
/// server. Source: PROTOCOL.md of containerd/ttrpc; streams are refused with UNIMPLEMENTED.
class Server final {
 public:
  /// `payload` is valid during the call only. May answer at once or move `responder` away. May add connections, answer
  /// other calls and stop the loop, but not destroy the server.
  using Handler = std::function<void(std::string_view payload, Responder responder)>;

  explicit Server(event::Loop& loop, ServerOptions options = {});
  /// Closes every connection and listener.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  Server(Server&&) = delete;
  Server& operator=(Server&&) = delete;

  /// Registers `service` ("containerd.task.v2.Task") and `method` ("Create"); the last registration counts.
  void handle(std::string service, std::string method, Handler handler);

  /// Accepts connections from `listener`, a non-blocking listening socket. Takes it. Errors: by errno.
  [[nodiscard]] Result<> listen(UniqueFd listener);
  /// Serves a connected stream socket; makes it non-blocking. Takes it. Errors: kExhausted, kDenied as for
  /// on_connection_error.
  [[nodiscard]] Result<> add_connection(UniqueFd socket);
  /// Closes the listeners; connections go on.
  void stop_listening();
  [[nodiscard]] std::size_t connection_count() const;
  /// Runs `function` from the loop when every answer given so far has been handed to the kernel, or its connection is
  /// gone: how a Shutdown call is answered before the process ends. A peer that does not read delays it for ever: bring
  /// a timer.
  void when_flushed(std::function<void()> function);

 private:
  friend class ServerConnection;
  struct Method {
    std::string service;
    std::string name;
    Handler handler;
  };

  void accept_ready(int listener_fd);
  void pause_listening();
  /// The handler, or what to tell the caller.
  Result<const Handler*> find(std::string_view service, std::string_view method) const;
  void forget(ServerConnection* connection);
  void check_flushed();
  void report(const Error& reason) const;

  struct Listener {
    UniqueFd fd;
    event::WatchId watch;
  };

  event::Loop& loop_;
  ServerOptions options_;
  std::vector<std::unique_ptr<Method>> methods_;
  std::vector<Listener> listeners_;
  event::TimerId resume_timer_{};
  std::vector<std::shared_ptr<ServerConnection>> connections_;
  std::vector<std::function<void()>> flush_waiters_;
};

}  // namespace berth::ttrpc
