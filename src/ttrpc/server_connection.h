#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "event/loop.h"
#include "ttrpc/frame.h"
#include "ttrpc/send_queue.h"
#include "ttrpc/server.h"

namespace berth::ttrpc {

/// One connection of a Server; private to the library. Owned by the server, by its watch, and for the length of a
/// callback by the callback. Loop thread only.
class ServerConnection final : public std::enable_shared_from_this<ServerConnection> {
 public:
  ServerConnection(Server& server, UniqueFd socket) : server_(&server), fd_(std::move(socket)) {}

  [[nodiscard]] Result<> start();
  /// Gives the answer to one call in flight.
  void respond(std::uint32_t stream_id, std::int32_t status, std::string_view message, std::string_view payload);
  /// Ends the connection. `reason` is null when the peer or the server's owner wanted it.
  void close(const Error* reason);
  [[nodiscard]] bool open() const { return server_ != nullptr; }
  [[nodiscard]] bool flushed() const { return queue_.empty(); }

 private:
  void ready(std::uint32_t events);
  void read_ready();
  void consume(std::string_view input);
  void frame(const Frame& frame);
  void request(const Frame& frame);
  void send(std::uint32_t stream_id, std::int32_t status, std::string_view message, std::string_view payload);
  void update_interest();

  Server* server_;  // null once closed
  UniqueFd fd_;
  event::WatchId watch_{};
  std::uint32_t interest_ = 0;
  std::size_t in_flight_ = 0;
  FrameDecoder decoder_;
  std::string held_;  // read, but not decoded while too many answers are unsent
  SendQueue queue_;
};

}  // namespace berth::ttrpc
