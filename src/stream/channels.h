#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "stream/wire.h"

namespace berth::stream {

/// The streams of a remote command, by the numbers that WebSocket gives them.
enum class Channel : std::uint8_t { kStdin = 0, kStdout = 1, kStderr = 2, kError = 3, kResize = 4 };

/// Which of them a session has.
struct ChannelSet {
  bool in = false;
  bool out = false;
  bool err = false;
  bool terminal = false;  ///< with kResize
};

/// How a remote command ended.
struct Outcome {
  int exit_code = 0;
  std::string failure;  ///< not empty: it did not run, or not to its end; exit_code means nothing then
};

class ChannelsHandler {
 public:
  ChannelsHandler() = default;
  ChannelsHandler(const ChannelsHandler&) = delete;
  ChannelsHandler& operator=(const ChannelsHandler&) = delete;
  ChannelsHandler(ChannelsHandler&&) = delete;
  ChannelsHandler& operator=(ChannelsHandler&&) = delete;
  virtual ~ChannelsHandler() = default;

  /// The client has opened what it must. Before anything else, once; may be inside Channels::start().
  virtual void on_open() = 0;
  /// kStdin or kResize.
  virtual void on_bytes(Channel channel, std::string_view bytes) = 0;
  virtual void on_end(Channel channel) = 0;
  virtual void on_writable() = 0;
  /// The last call, once, unless finish() was called.
  virtual void on_gone(const Error& why) = 0;
};

/// A remote command's connection to its client, whichever protocol that speaks. For the thread of the io_context.
class Channels {
 public:
  Channels() = default;
  Channels(const Channels&) = delete;
  Channels& operator=(const Channels&) = delete;
  Channels(Channels&&) = delete;
  Channels& operator=(Channels&&) = delete;
  virtual ~Channels() = default;

  /// `handler` is held until on_gone() or finish().
  virtual void start(std::shared_ptr<ChannelsHandler> handler) = 0;
  /// kStdout or kStderr.
  virtual void send(Channel channel, std::string_view bytes) = 0;
  [[nodiscard]] virtual std::size_t unsent() const = 0;
  virtual void pause(bool paused) = 0;
  /// Ends all channels, kError with the outcome in the form of the protocol, and closes the connection.
  virtual void finish(const Outcome& outcome) = 0;
};

/// `protocol`: "", "v2.channel.k8s.io", ... "v4.channel.k8s.io". A client that has not opened its streams within
/// `patience` (see remote_command.h) is finished by its owner.
[[nodiscard]] std::shared_ptr<Channels> spdy_channels(std::shared_ptr<Wire> wire, const ChannelSet& set,
                                                      std::string_view protocol);
/// `protocol`: "", "channel.k8s.io", "base64.channel.k8s.io", "v4.base64.channel.k8s.io", "v4.channel.k8s.io" or
/// "v5.channel.k8s.io".
[[nodiscard]] std::shared_ptr<Channels> websocket_channels(std::shared_ptr<Wire> wire, const ChannelSet& set,
                                                           std::string_view protocol);

/// What goes to kError: from v4 on the JSON of a Kubernetes Status, before it a text, or nothing for success.
[[nodiscard]] std::string outcome_text(const Outcome& outcome, bool as_status);

}  // namespace berth::stream
