#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "ttrpc/reactor.h"

namespace berth::ttrpc {

class ClientConnection;

struct CallOptions {
  /// When to stop waiting; sent along as the timeout of the call. Without one the call may last for ever.
  std::optional<SteadyTime> deadline;
  /// For call() only: stop waiting on request.
  std::stop_token stop;
  std::vector<std::pair<std::string, std::string>> metadata;

  [[nodiscard]] static CallOptions within(std::chrono::nanoseconds timeout) {
    CallOptions options;
    options.deadline = std::chrono::steady_clock::now() + timeout;
    return options;
  }
};

struct ClientOptions {
  std::size_t max_pending = 4096;          ///< calls in flight; further ones are kExhausted
  std::size_t max_queue_bytes = 8U << 20;  ///< unsent bytes of requests; a call that would go over it is kExhausted
  /// Called once on the reactor's thread when the connection has ended, after the callbacks of its calls: kUnavailable
  /// the peer closed it; kCancelled close(); kInvalid the peer speaks no ttrpc; else by errno.
  std::function<void(const Error& reason)> on_disconnect;
};

/// Names an asynchronous call of one client. 0 names none.
enum class CallId : std::uint32_t {};

/// A multiplexed ttrpc connection to one server. Thread-safe; any number of calls may be under way, and none of them
/// costs a thread: requests are sent by the caller, answers are read by the shared Reactor. It does not reconnect.
///
/// Errors of a call: what the peer answered (its text, its code through code_of); kTimeout the deadline passed and
/// kCancelled stop was requested, and a late answer is dropped; kUnavailable the connection has ended, before or during
/// the call; kExhausted a message over kMaxData (either way) or a limit of ClientOptions; kCorrupt an answer that does
/// not parse. Source: PROTOCOL.md of containerd/ttrpc.
class Client final {
 public:
  using Callback = std::function<void(Result<std::string> reply)>;

  /// Connects to the unix socket at `path`. Blocks at most `timeout`. Errors: as for os::unix_connect.
  [[nodiscard]] static Result<std::unique_ptr<Client>> connect(Reactor& reactor, const std::string& path,
                                                               std::chrono::milliseconds timeout,
                                                               ClientOptions options = {});
  /// Takes a connected stream socket.
  [[nodiscard]] static Result<std::unique_ptr<Client>> adopt(Reactor& reactor, UniqueFd socket,
                                                             ClientOptions options = {});
  /// close(). Callbacks may still run afterwards, until Reactor::drain() returns. No call() may be about to start.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  Client(Client&&) = delete;
  Client& operator=(Client&&) = delete;

  /// Calls and waits for the payload of the answer. On the reactor's thread it fails with kPrecondition: it would wait
  /// for itself.
  [[nodiscard]] Result<std::string> call(std::string_view service, std::string_view method, std::string_view payload,
                                         const CallOptions& options = {});
  /// Calls; `callback` runs exactly once on the reactor's thread, never inside this function. It must not block and
  /// must not throw; it may call call_async and close. `options.stop` is not used: cancel().
  CallId call_async(std::string_view service, std::string_view method, std::string_view payload, Callback callback,
                    const CallOptions& options = {});
  /// Ends the wait of an asynchronous call with kCancelled, unless it has its result already. The peer is not told.
  void cancel(CallId id);
  /// Ends the connection; every call under way fails with kCancelled. Idempotent, does not wait.
  void close();
  /// False once the connection has ended or close() was called.
  [[nodiscard]] bool alive() const;

 private:
  explicit Client(std::shared_ptr<ClientConnection> connection);
  std::shared_ptr<ClientConnection> connection_;
};

}  // namespace berth::ttrpc
