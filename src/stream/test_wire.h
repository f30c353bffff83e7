#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "stream/channels.h"
#include "stream/wire.h"

// For the tests and fuzz targets of this library: a connection without a network, and a session that remembers.
namespace berth::stream {

/// Keeps what is sent; the test plays the peer.
class TestWire final : public Wire {
 public:
  void start(std::shared_ptr<WireHandler> handler) override { handler_ = std::move(handler); }
  void send(std::string bytes) override {
    if (!closed_) sent_.push_back(std::move(bytes));
  }
  [[nodiscard]] std::size_t unsent() const override { return 0; }
  void pause(bool /*paused*/) override {}
  void close() override {
    closed_ = true;
    handler_.reset();
  }

  /// What a peer sends; a WebSocket message or the next piece of one.
  void receive(std::string_view bytes, bool first = true) {
    // As a Wire does: whoever is called may close it.
    if (const auto handler = handler_; handler) handler->on_bytes(bytes, first);
  }
  void break_off() {
    if (const auto handler = std::exchange(handler_, nullptr); handler) {
      handler->on_gone(Error(Code::kUnavailable, "broken"));
    }
  }
  [[nodiscard]] const std::vector<std::string>& sent() const { return sent_; }
  [[nodiscard]] std::string sent_bytes() const {
    std::string all;
    for (const auto& bytes : sent_) all += bytes;
    return all;
  }
  [[nodiscard]] bool closed() const { return closed_; }

 private:
  std::shared_ptr<WireHandler> handler_;
  std::vector<std::string> sent_;
  bool closed_ = false;
};

/// What a remote command's client did.
class TestSession final : public ChannelsHandler {
 public:
  void on_open() override { open = true; }
  void on_bytes(Channel channel, std::string_view bytes) override {
    (channel == Channel::kStdin ? input : sizes).append(bytes);
  }
  void on_end(Channel /*channel*/) override { ++ends; }
  void on_writable() override {}
  void on_gone(const Error& why) override {
    ++gone;
    reason = why.text();
  }

  bool open = false;
  std::string input;
  std::string sizes;
  unsigned ends = 0;
  unsigned gone = 0;
  std::string reason;
};

}  // namespace berth::stream
