#pragma once
#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace berth::stream {

/// One forwarded connection: the client's bytes to a TCP port of the pod's loopback and back.
class Forward final : public std::enable_shared_from_this<Forward> {
 public:
  struct Hooks {
    std::function<void(std::string_view)> bytes;  ///< from the port
    std::function<bool()> has_room;
    /// The port sends no more, or never did: `error` is "" or one line for the client. Once.
    std::function<void(const std::string& error)> ended;
    /// The client sends faster than the port takes: pause it, or let it go on.
    std::function<void(bool)> pause;
    /// How much is taken from the client before the port has, until it is paused.
    std::function<std::size_t()> limit;
    /// Nothing goes either way any more: the last call, once. Not after stop().
    std::function<void()> over;
  };

  /// Of what a session holds for all of its connections, the share of one of so many.
  [[nodiscard]] static std::size_t share_of(std::size_t connections);

  /// `netns_fd`: where to connect, borrowed for start(); -1: where we are.
  Forward(boost::asio::io_context& io, std::uint16_t port, Hooks hooks);

  void start(int netns_fd);
  void write(std::string_view bytes);
  /// The client sends no more.
  void end();
  /// There is room again.
  void resume();
  /// Ends at once; no hook is called any more.
  void stop();

 private:
  void connect(bool v6, int netns_fd);
  void connected(bool v6, const boost::system::error_code& error);
  void read_more();
  void write_more();
  void watch_progress();
  void fail_with(const std::string& why);
  void finish(const std::string& error);
  void complete();

  boost::asio::io_context& io_;
  std::uint16_t port_;
  Hooks hooks_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::ip::tcp::socket other_family_;  // made with the first, for want of the namespace later
  boost::asio::steady_timer stall_;
  std::array<char, 64U << 10> buffer_;
  std::string pending_;
  std::string writing_;
  std::size_t written_ = 0;
  bool open_ = false;
  bool reading_ = false;
  bool busy_ = false;
  bool ending_ = false;
  bool paused_ = false;
  bool port_ended_ = false;
  bool over_ = false;
};

}  // namespace berth::stream
