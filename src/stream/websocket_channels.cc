#include <optional>
#include <utility>

#include "base/base64.h"
#include "stream/channels.h"

// A remote command over WebSocket: each message begins with the number of its channel, as a byte or, in the base64
// forms, as a digit (wsstream of k8s.io/apimachinery; KEP-4006 for version 5).
namespace berth::stream {
namespace {

// Version 5: the next byte names a channel that its sender has ended.
constexpr unsigned char kCloseSignal = 255;
// A base64 message must be whole to be decoded; the others are passed on as they come.
constexpr std::size_t kMaxText = 4U << 20;

class WebSocketChannels final : public Channels,
                                public WireHandler,
                                public std::enable_shared_from_this<WebSocketChannels> {
 public:
  WebSocketChannels(std::shared_ptr<Wire> wire, const ChannelSet& set, std::string_view protocol)
      : wire_(std::move(wire)),
        set_(set),
        base64_(protocol.find("base64") != std::string_view::npos),
        as_status_(protocol.starts_with("v4.") || protocol.starts_with("v5.")),
        can_end_(protocol.starts_with("v5.")) {}

  void start(std::shared_ptr<ChannelsHandler> handler) override {
    handler_ = std::move(handler);
    wire_->start(shared_from_this());
    // Tells the client that it is through: nothing, on the first channel that it reads.
    send_message(set_.out ? Channel::kStdout : set_.err ? Channel::kStderr : Channel::kError, {});
    handler_->on_open();
  }

  void send(Channel channel, std::string_view bytes) override {
    if (handler_ && (channel == Channel::kStdout ? set_.out : set_.err)) send_message(channel, bytes);
  }
  [[nodiscard]] std::size_t unsent() const override { return wire_->unsent(); }
  void pause(bool paused) override { wire_->pause(paused); }

  void finish(const Outcome& outcome) override {
    if (finished_) return;
    finished_ = true;
    handler_.reset();
    const std::string text = outcome_text(outcome, as_status_);
    if (!text.empty()) send_message(Channel::kError, text);
    wire_->close();
  }

  void on_bytes(std::string_view bytes, bool first) override {
    if (!handler_) return;
    if (base64_) return on_text(bytes, first);
    if (first) {
      channel_ = kNone;
      if (bytes.empty()) return;
      channel_ = static_cast<unsigned char>(bytes.front());
      bytes.remove_prefix(1);
    }
    dispatch(bytes);
  }
  void on_writable() override {
    if (handler_) handler_->on_writable();
  }
  void on_gone(const Error& why) override {
    if (const auto handler = std::exchange(handler_, nullptr); handler) handler->on_gone(why);
  }

 private:
  static constexpr int kNone = -1;

  // The message before is whole when the next one begins; the handler's turn comes then or when no text is missing.
  void on_text(std::string_view bytes, bool first) {
    if (first) text_.clear();
    if (text_.size() + bytes.size() > kMaxText) {
      const auto handler = std::exchange(handler_, nullptr);
      wire_->close();
      return handler->on_gone(Error(Code::kExhausted, "a WebSocket message is too large"));
    }
    text_.append(bytes);
    if (text_.empty() || (text_.size() - 1) % 4 != 0) return;
    auto decoded = base64_decode(std::string_view(text_).substr(1));
    if (!decoded) return;
    channel_ = text_.front() - '0';
    text_.erase(1);
    dispatch(*decoded);
  }

  void dispatch(std::string_view bytes) {
    // A reference of our own: whoever is called may finish us.
    const auto handler = handler_;
    if (channel_ == kCloseSignal && can_end_) {
      // Its first byte is the channel, whatever follows.
      if (bytes.empty()) return;
      channel_ = kNone;
      if (bytes.front() == 0 && set_.in) handler->on_end(Channel::kStdin);
      return;
    }
    if (bytes.empty()) return;
    if (channel_ == 0 && set_.in) return handler->on_bytes(Channel::kStdin, bytes);
    if (channel_ == 4 && set_.terminal) return handler->on_bytes(Channel::kResize, bytes);
    // Others are for the server to write; a client that writes there is not heard.
  }

  void send_message(Channel channel, std::string_view bytes) {
    std::string message;
    if (base64_) {
      message.push_back(static_cast<char>('0' + static_cast<int>(channel)));
      message.append(base64_encode(bytes));
    } else {
      message.reserve(1 + bytes.size());
      message.push_back(static_cast<char>(channel));
      message.append(bytes);
    }
    wire_->send(std::move(message));
  }

  std::shared_ptr<Wire> wire_;
  std::shared_ptr<ChannelsHandler> handler_;
  ChannelSet set_;
  bool base64_;
  bool as_status_;
  bool can_end_;
  bool finished_ = false;
  int channel_ = kNone;  // of the message that comes
  std::string text_;     // of a base64 message: its channel and what is not decoded yet
};

}  // namespace

std::shared_ptr<Channels> websocket_channels(std::shared_ptr<Wire> wire, const ChannelSet& set,
                                             std::string_view protocol) {
  return std::make_shared<WebSocketChannels>(std::move(wire), set, protocol);
}

}  // namespace berth::stream
