#include <array>
#include <optional>
#include <utility>

#include "stream/channels.h"
#include "stream/spdy_session.h"

// A remote command over SPDY: one stream for each channel, named by its header "streamtype" (remotecommand of
// k8s.io/apimachinery and kubelet).
namespace berth::stream {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"stdin", "stdout", "stderr", "error", "resize"};

class SpdyChannels final : public Channels, public SpdyHandler, public std::enable_shared_from_this<SpdyChannels> {
 public:
  SpdyChannels(std::shared_ptr<Wire> wire, const ChannelSet& set, std::string_view protocol)
      : wire_(std::move(wire)), as_status_(protocol == "v4.channel.k8s.io" || protocol == "v5.channel.k8s.io") {
    const bool can_resize = as_status_ || protocol == "v3.channel.k8s.io";
    wanted_ = {set.in, set.out, set.err && !set.terminal, true, set.terminal && can_resize};
  }

  void start(std::shared_ptr<ChannelsHandler> handler) override {
    handler_ = std::move(handler);
    session_ = std::make_shared<SpdySession>(wire_, shared_from_this());
    wire_->start(session_);
  }

  void send(Channel channel, std::string_view bytes) override {
    const auto& id = ids_[index(channel)];
    if (id && session_) session_->send(*id, bytes, false);
  }
  [[nodiscard]] std::size_t unsent() const override { return wire_->unsent(); }
  void pause(bool paused) override { wire_->pause(paused); }

  void finish(const Outcome& outcome) override {
    if (!session_) return;
    handler_.reset();
    for (const Channel channel : {Channel::kStdout, Channel::kStderr}) {
      if (const auto& id = ids_[index(channel)]; id) session_->send(*id, {}, true);
    }
    if (const auto& id = ids_[index(Channel::kError)]; id) session_->send(*id, outcome_text(outcome, as_status_), true);
    std::exchange(session_, nullptr)->close();
  }

  void on_stream(std::uint32_t id, const SpdyHeaders& headers) override {
    const std::string_view type = spdy_header(headers, "streamtype");
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      if (kNames[i] != type) continue;
      if (!wanted_[i] || ids_[i]) break;
      ids_[i] = id;
      session_->accept_stream(id);
      return open_if_whole();
    }
    session_->reset(id);
  }
  void on_data(std::uint32_t id, std::string_view bytes) override {
    if (!open_) {
      // Whoever writes before all is open: kept, but not for ever.
      if (id != ids_[0]) return;
      if (early_.size() + bytes.size() > Wire::kHighWater) return refuse("too much input before the streams are open");
      early_.append(bytes);
      return;
    }
    // A reference of our own: whoever is called may finish us.
    const auto handler = handler_;
    if (id == ids_[index(Channel::kStdin)]) return handler->on_bytes(Channel::kStdin, bytes);
    if (id == ids_[index(Channel::kResize)]) handler->on_bytes(Channel::kResize, bytes);
  }
  void on_end(std::uint32_t id) override {
    if (id != ids_[index(Channel::kStdin)]) return;
    if (!open_) early_end_ = true;
    if (const auto handler = handler_; open_ && handler) handler->on_end(Channel::kStdin);
  }
  void on_reset(std::uint32_t id) override {
    on_end(id);
    for (auto& known : ids_) {
      if (known == id) known.reset();
    }
  }
  void on_writable() override {
    if (open_ && handler_) handler_->on_writable();
  }
  void on_gone(const Error& why) override {
    session_.reset();
    if (const auto handler = std::exchange(handler_, nullptr); handler) handler->on_gone(why);
  }

 private:
  void refuse(const char* why) {
    std::exchange(session_, nullptr)->close();
    if (const auto handler = std::exchange(handler_, nullptr); handler) handler->on_gone(Error(Code::kExhausted, why));
  }

  static std::size_t index(Channel channel) { return static_cast<std::size_t>(channel); }

  void open_if_whole() {
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      if (wanted_[i] && !ids_[i]) return;
    }
    if (open_) return;
    open_ = true;
    const auto handler = handler_;
    handler->on_open();
    const std::string early = std::exchange(early_, {});
    if (!early.empty() && handler_) handler->on_bytes(Channel::kStdin, early);
    if (early_end_ && handler_) handler->on_end(Channel::kStdin);
  }

  std::shared_ptr<Wire> wire_;
  std::shared_ptr<SpdySession> session_;
  std::shared_ptr<ChannelsHandler> handler_;
  bool as_status_;
  bool open_ = false;
  bool early_end_ = false;
  std::string early_;
  std::array<bool, 5> wanted_{};
  std::array<std::optional<std::uint32_t>, 5> ids_;
};

}  // namespace

std::shared_ptr<Channels> spdy_channels(std::shared_ptr<Wire> wire, const ChannelSet& set, std::string_view protocol) {
  return std::make_shared<SpdyChannels>(std::move(wire), set, protocol);
}

}  // namespace berth::stream
