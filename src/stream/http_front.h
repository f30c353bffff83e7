#pragma once
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "stream/wire.h"

namespace berth::stream {

/// A request to leave HTTP, as far as it was read.
struct UpgradeRequest {
  std::string kind;                    ///< "exec", "attach" or "portforward"
  std::string token;                   ///< the rest of the path
  bool websocket = false;              ///< else SPDY/3.1
  std::vector<std::string> protocols;  ///< that the client speaks, its favourite first
};

/// What the front is to answer.
struct UpgradeAnswer {
  unsigned status = 101;                             ///< else the HTTP error
  std::string text{};                                ///< of an error, for people
  std::string protocol{};                            ///< "": none is named in the answer
  std::vector<std::string> accepted{};               ///< with status 403: the protocols that we speak
  bool text_messages = false;                        ///< WebSocket: messages that we send are text
  std::function<void(std::shared_ptr<Wire>)> run{};  ///< takes the connection over after the upgrade
};

/// Speaks HTTP on one accepted connection until its upgrade: one request, its head at most 16 KiB, within 30 s.
/// `decide` is called once, on the thread of the io_context, and kept until the upgrade is through; `tls`: borrowed for
/// the call, or null.
/// Source: RFC 9112, RFC 6455; SPDY/3.1 as kubelets and kubectl ask for it.
void serve_http(boost::asio::ip::tcp::socket socket, boost::asio::ssl::context* tls,
                std::function<UpgradeAnswer(const UpgradeRequest&)> decide);

}  // namespace berth::stream
