#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "stream/forward.h"
#include "stream/remote_command.h"
#include "stream/spdy_session.h"

namespace berth::stream {

/// Finds a pod's network namespace by its shim, and tells when the pod has gone.
class PodNetns final {
 public:
  using Ready = std::function<void(Result<> ready)>;

  /// `ready` is called once, `gone` at most once after it.
  PodNetns(const SessionContext& context, const SessionSpec& spec, Ready ready, std::function<void()> gone);
  /// -1: where we are.
  [[nodiscard]] int fd() const { return netns_.valid() ? netns_.get() : -1; }

 private:
  std::unique_ptr<ShimClient> shim_;
  UniqueFd netns_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

/// Forwards over SPDY ("portforward.k8s.io"): for each connection the client opens a stream for errors and one for
/// data with the same "requestid". They are independent: what breaks one leaves the others.
class PortForward final : public SpdyHandler, public std::enable_shared_from_this<PortForward> {
 public:
  PortForward(SessionContext context, SessionSpec spec, std::shared_ptr<Wire> wire);

  void start();

  void on_stream(std::uint32_t id, const SpdyHeaders& headers) override;
  void on_data(std::uint32_t id, std::string_view bytes) override;
  void on_end(std::uint32_t id) override;
  void on_reset(std::uint32_t id) override;
  void on_writable() override;
  void on_gone(const Error& why) override;

 private:
  struct Connection {
    std::uint32_t error_stream = 0;
    std::uint32_t data_stream = 0;  ///< 0: not opened yet
    std::uint16_t port = 0;
    std::shared_ptr<Forward> forward;
    std::string early;  ///< before it is forwarded
    bool early_end = false;
  };

  void begin(Connection& connection);
  void ended(std::uint32_t data_stream, const std::string& error);
  void pause(bool paused);
  Connection* of_data(std::uint32_t id);

  SessionContext context_;
  SessionSpec spec_;
  std::shared_ptr<Wire> wire_;
  std::shared_ptr<SpdySession> session_;
  std::unique_ptr<PodNetns> netns_;
  bool ready_ = false;
  std::map<std::string, Connection> connections_;  // by request id
  unsigned pausing_ = 0;                           // forwards that want the client to pause
};

/// Forwards by the older WebSocket protocol ("v4.channel.k8s.io"): one connection for each port of the request; channel
/// 2n is the data of the nth, 2n+1 its errors, and each begins with the port's number.
class WebSocketPortForward final : public WireHandler, public std::enable_shared_from_this<WebSocketPortForward> {
 public:
  WebSocketPortForward(SessionContext context, SessionSpec spec, std::shared_ptr<Wire> wire);

  void start();

  void on_bytes(std::string_view bytes, bool first) override;
  void on_writable() override;
  void on_gone(const Error& why) override;

 private:
  void begin();
  void ended(std::size_t index, const std::string& error);
  void send(std::size_t channel, std::string_view bytes);
  void finish();

  SessionContext context_;
  SessionSpec spec_;
  std::shared_ptr<Wire> wire_;
  std::unique_ptr<PodNetns> netns_;
  std::vector<std::shared_ptr<Forward>> forwards_;
  std::vector<std::pair<std::string, bool>> early_;  // read before there were any
  std::size_t running_ = 0;
  unsigned pausing_ = 0;
  std::size_t channel_ = 0;  // of the message that comes
};

}  // namespace berth::stream
