#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "stream/spdy_frame.h"
#include "stream/spdy_headers.h"
#include "stream/wire.h"

namespace berth::stream {

/// What a SpdySession tells. None is called inside a call to the session but on_data and on_end after accept_stream().
class SpdyHandler {
 public:
  SpdyHandler() = default;
  SpdyHandler(const SpdyHandler&) = delete;
  SpdyHandler& operator=(const SpdyHandler&) = delete;
  SpdyHandler(SpdyHandler&&) = delete;
  SpdyHandler& operator=(SpdyHandler&&) = delete;
  virtual ~SpdyHandler() = default;

  /// The peer opened a stream: accept_stream() or reset() it, at once.
  virtual void on_stream(std::uint32_t id, const SpdyHeaders& headers) = 0;
  virtual void on_data(std::uint32_t id, std::string_view bytes) = 0;
  /// The peer sends no more on it.
  virtual void on_end(std::uint32_t id) = 0;
  /// The peer has given the stream up.
  virtual void on_reset(std::uint32_t id) = 0;
  virtual void on_writable() = 0;
  /// The last call, once, unless close() was called.
  virtual void on_gone(const Error& why) = 0;
};

/// The server's side of a SPDY/3.1 connection whose streams the client opens. Windows are not kept, neither ours nor
/// the peer's: the clients that speak this (Go's spdystream) neither keep nor update them, and TCP slows both sides
/// down.
class SpdySession final : public WireHandler {
 public:
  static constexpr std::size_t kMaxStreams = 2048;

  /// `handler` outlives the session's last callback.
  SpdySession(std::shared_ptr<Wire> wire, std::shared_ptr<SpdyHandler> handler)
      : wire_(std::move(wire)), handler_(std::move(handler)) {}

  void accept_stream(std::uint32_t id);
  /// RST_STREAM, REFUSED_STREAM for one that was not accepted, else CANCEL; the stream is forgotten.
  void reset(std::uint32_t id);
  /// Sends what is not empty; `fin` after it ends our side. On a stream that is gone: nothing.
  void send(std::uint32_t id, std::string_view bytes, bool fin);
  [[nodiscard]] std::size_t unsent() const { return wire_->unsent(); }
  void pause(bool paused) { wire_->pause(paused); }
  /// Says goodbye and closes the wire.
  void close();

  void on_bytes(std::string_view bytes, bool first) override;
  void on_writable() override;
  void on_gone(const Error& why) override;

 private:
  class Frames;
  struct Stream {
    bool accepted = false;
    bool we_ended = false;
    bool peer_ended = false;
  };

  Result<> on_control(SpdyType type, std::uint8_t flags, std::string_view payload);
  Result<> on_data(std::uint32_t id, std::string_view bytes, bool fin);
  Result<> new_stream(std::uint8_t flags, std::string_view payload);
  void send_reset(std::uint32_t id, std::uint32_t status);
  void peer_ended(std::uint32_t id);
  void forget_if_over(std::uint32_t id);
  void end(const Error& why);

  std::shared_ptr<Wire> wire_;
  std::shared_ptr<SpdyHandler> handler_;  // until the end
  SpdyReader reader_;
  SpdyHeaderDecoder decoder_;
  SpdyHeaderEncoder encoder_;
  std::map<std::uint32_t, Stream> streams_;
  std::uint32_t last_id_ = 0;
  std::uint32_t unknown_id_ = 0;  // the last that data came for and that is no stream
  bool closed_ = false;
};

}  // namespace berth::stream
