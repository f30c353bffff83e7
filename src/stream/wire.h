#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace berth::stream {

/// What comes from a Wire. All calls are on the thread of the io_context and never inside a call to the Wire.
class WireHandler {
 public:
  WireHandler() = default;
  WireHandler(const WireHandler&) = delete;
  WireHandler& operator=(const WireHandler&) = delete;
  WireHandler(WireHandler&&) = delete;
  WireHandler& operator=(WireHandler&&) = delete;
  virtual ~WireHandler() = default;

  /// `first`: these bytes begin a message (WebSocket; elsewhere without meaning). Not empty unless `first`.
  virtual void on_bytes(std::string_view bytes, bool first) = 0;
  /// unsent() has fallen below kLowWater.
  virtual void on_writable() = 0;
  /// The last call, once: the peer has closed the connection, or it broke. Not after close().
  virtual void on_gone(const Error& why) = 0;
};

/// A connection after its HTTP upgrade: TCP or TLS as a byte stream, or WebSocket messages over either. For the thread
/// of the io_context. Holds its handler until on_gone() or the end of close().
class Wire {
 public:
  /// Senders stop above the one and go on below the other.
  static constexpr std::size_t kHighWater = 1U << 20;
  static constexpr std::size_t kLowWater = 256U << 10;

  Wire() = default;
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;
  Wire(Wire&&) = delete;
  Wire& operator=(Wire&&) = delete;
  virtual ~Wire() = default;

  /// Begins to read. Once.
  virtual void start(std::shared_ptr<WireHandler> handler) = 0;
  /// Queues `bytes`; for WebSocket they are one message. Nothing is sent after close().
  virtual void send(std::string bytes) = 0;
  [[nodiscard]] virtual std::size_t unsent() const = 0;
  /// Stops or resumes reading, so that a sender whose receiver is slow feels it. The end of the connection is seen all
  /// the same.
  virtual void pause(bool paused) = 0;
  /// Sends what is queued, ends the connection and waits a bounded time for the peer to do the same. Idempotent.
  virtual void close() = 0;
  /// Keeps `token` until the connection has ended, its last bytes included.
  void hold(std::shared_ptr<void> token) { held_ = std::move(token); }

 private:
  std::shared_ptr<void> held_;
};

}  // namespace berth::stream
