#include "stream/forward.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <utility>

#include "os/netns.h"

namespace berth::stream {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

// A port that takes nothing for so long while others wait behind it is given up.
constexpr std::chrono::seconds kStall{20};

}  // namespace

Forward::Forward(asio::io_context& io, std::uint16_t port, Hooks hooks)
    : io_(io), port_(port), hooks_(std::move(hooks)), socket_(io), other_family_(io), stall_(io) {}

std::size_t Forward::share_of(std::size_t connections) {
  constexpr std::size_t kAll = 64U << 20;
  constexpr std::size_t kLeast = 64U << 10;
  constexpr std::size_t kMost = 4U << 20;
  return std::clamp(kAll / std::max<std::size_t>(connections, 1), kLeast, kMost);
}

// A socket belongs to the namespace that it was made in, wherever it is used.
void Forward::start(int netns_fd) {
  const auto open = [this]() -> Result<> {
    error_code error;
    (void)socket_.open(tcp::v4(), error);
    if (error) return fail_errno(error.value(), "socket");
    // A kernel without IPv6 has no second try.
    error_code ignored;
    (void)other_family_.open(tcp::v6(), ignored);
    return {};
  };
  const auto opened = netns_fd >= 0 ? os::run_in_netns(netns_fd, open) : open();
  if (!opened) return fail_with(opened.error().text());
  const tcp::endpoint loopback(asio::ip::address_v4::loopback(), port_);
  socket_.async_connect(loopback,
                        [self = shared_from_this()](const error_code& error) { self->connected(false, error); });
}

void Forward::connected(bool v6, const error_code& error) {
  if (over_) return;
  if (error && !v6 && other_family_.is_open()) {
    socket_ = std::move(other_family_);
    const tcp::endpoint loopback(asio::ip::address_v6::loopback(), port_);
    return socket_.async_connect(loopback, [self = shared_from_this(), first = error](const error_code& second) {
      self->connected(true, second ? first : second);
    });
  }
  if (error) return fail_with("connect to port " + std::to_string(port_) + ": " + error.message());
  error_code ignored;
  (void)other_family_.close(ignored);
  (void)socket_.set_option(tcp::no_delay(true), ignored);
  open_ = true;
  read_more();
  write_more();
}

void Forward::read_more() {
  if (reading_ || over_ || !open_ || port_ended_ || !hooks_.has_room()) return;
  reading_ = true;
  socket_.async_read_some(asio::buffer(buffer_),
                          [self = shared_from_this()](const error_code& error, std::size_t count) {
                            self->reading_ = false;
                            if (self->over_) return;
                            if (error) {
                              if (error != asio::error::eof) {
                                return self->fail_with("port " + std::to_string(self->port_) + ": " + error.message());
                              }
                              self->port_ended_ = true;
                              self->finish("");
                              return self->write_more();
                            }
                            self->hooks_.bytes(std::string_view(self->buffer_.data(), count));
                            self->read_more();
                          });
}

void Forward::resume() {
  read_more();
}

void Forward::write(std::string_view bytes) {
  if (over_ || ending_) return;
  pending_.append(bytes);
  if (!paused_ && pending_.size() > hooks_.limit()) {
    paused_ = true;
    hooks_.pause(true);
    watch_progress();
  }
  write_more();
}

void Forward::end() {
  ending_ = true;
  write_more();
}

void Forward::write_more() {
  if (busy_ || over_ || !open_) return;
  if (written_ == writing_.size()) {
    writing_.clear();
    written_ = 0;
    if (pending_.empty()) {
      error_code ignored;
      if (ending_) (void)socket_.shutdown(tcp::socket::shutdown_send, ignored);
      if (ending_ && port_ended_) complete();
      return;
    }
    writing_.swap(pending_);
    if (paused_) {
      paused_ = false;
      stall_.cancel();
      hooks_.pause(false);
    }
  }
  busy_ = true;
  socket_.async_write_some(asio::buffer(writing_.data() + written_, writing_.size() - written_),
                           [self = shared_from_this()](const error_code& error, std::size_t count) {
                             self->busy_ = false;
                             if (self->over_) return;
                             // What it does not take any more is dropped; what it still says is read.
                             if (error)
                               return self->fail_with("port " + std::to_string(self->port_) + ": " + error.message());
                             self->written_ += count;
                             if (self->paused_) self->watch_progress();
                             self->write_more();
                           });
}

void Forward::watch_progress() {
  stall_.expires_after(kStall);
  stall_.async_wait([weak = weak_from_this()](const error_code& error) {
    const auto self = weak.lock();
    if (error || !self || !self->paused_) return;
    self->fail_with("port " + std::to_string(self->port_) + " has taken nothing for " + std::to_string(kStall.count()) +
                    " s");
  });
}

void Forward::fail_with(const std::string& why) {
  finish(why);
  complete();
}

void Forward::complete() {
  const auto over = std::exchange(hooks_.over, nullptr);
  stop();
  if (over) over();
}

void Forward::finish(const std::string& error) {
  const auto ended = std::exchange(hooks_.ended, nullptr);
  if (ended) ended(error);
}

void Forward::stop() {
  if (over_) return;
  over_ = true;
  stall_.cancel();
  error_code ignored;
  (void)socket_.close(ignored);
  (void)other_family_.close(ignored);
  std::string().swap(pending_);
  if (std::exchange(paused_, false) && hooks_.pause) hooks_.pause(false);
  hooks_ = {};
}

}  // namespace berth::stream
