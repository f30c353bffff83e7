#include "websocket_client.h"

// First: Asio 1.18 uses std::exchange without it.
#include <utility>

#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/websocket/ssl.hpp>
#include <chrono>
#include <optional>

#include "base/strings.h"
#include "spdy_client.h"

namespace berth::test {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using beast::error_code;
using tcp = asio::ip::tcp;

namespace {

constexpr std::chrono::seconds kPatience{20};

}  // namespace

// One of two streams, by the URL's scheme.
struct WebSocketClient::Impl {
  asio::io_context io;
  asio::ssl::context tls{asio::ssl::context::tls_client};
  std::optional<websocket::stream<tcp::socket>> plain;
  std::optional<websocket::stream<asio::ssl::stream<tcp::socket>>> secure;
  websocket::response_type answer;

  template <class Function>
  auto with(Function function) {
    return plain ? function(*plain) : function(*secure);
  }
  // Starts `operation` with a handler and waits for it.
  template <class Operation>
  Result<> wait(const char* what, Operation operation) {
    std::optional<error_code> done;
    operation([&done](const error_code& error, auto&&...) { done = error; });
    io.restart();
    io.run_for(kPatience);
    if (!done) return fail(Code::kTimeout, what);
    if (*done) {
      const auto reason = with([](auto& stream) { return std::string(stream.reason().reason.c_str()); });
      return fail(Code::kUnavailable, std::string(what) + ": " + done->message() + " " + reason);
    }
    return {};
  }
};

WebSocketClient::WebSocketClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WebSocketClient::~WebSocketClient() = default;

Result<std::unique_ptr<WebSocketClient>> WebSocketClient::connect(const std::string& url,
                                                                  const std::vector<std::string>& protocols,
                                                                  const std::string& ca) {
  BERTH_ASSIGN(UrlConnection connection, connect_url(url), "connect");
  auto impl = std::make_unique<Impl>();
  tcp::socket socket(impl->io, tcp::v4(), connection.socket.release());
  if (ca.empty()) {
    impl->plain.emplace(std::move(socket));
  } else {
    impl->tls.load_verify_file(ca);
    impl->tls.set_verify_mode(asio::ssl::verify_peer);
    impl->secure.emplace(std::move(socket), impl->tls);
    BERTH_TRY(impl->wait("TLS",
                         [&](auto handler) {
                           impl->secure->next_layer().async_handshake(asio::ssl::stream_base::client,
                                                                      std::move(handler));
                         }),
              "connect");
  }
  std::string offered;
  for (const auto& protocol : protocols) offered += (offered.empty() ? "" : ", ") + protocol;
  Impl& made = *impl;
  made.with([&](auto& stream) {
    stream.set_option(websocket::stream_base::decorator([offered](websocket::request_type& request) {
      if (!offered.empty()) request.set(beast::http::field::sec_websocket_protocol, offered);
    }));
    stream.binary(true);
    stream.read_message_max(0);
  });
  auto shaken = made.wait("handshake", [&](auto handler) {
    made.with([&](auto& stream) {
      stream.async_handshake(made.answer, connection.host, connection.path, std::move(handler));
    });
  });
  if (!shaken) {
    return fail(std::move(shaken).error().in("status " + std::to_string(made.answer.result_int())));
  }
  return std::unique_ptr<WebSocketClient>(new WebSocketClient(std::move(impl)));
}

std::string WebSocketClient::protocol() const {
  return std::string(impl_->answer[beast::http::field::sec_websocket_protocol]);
}

Result<> WebSocketClient::send(std::string_view message, bool text) {
  return impl_->wait("send", [&](auto handler) {
    impl_->with([&](auto& stream) {
      stream.text(text);
      stream.async_write(asio::buffer(message.data(), message.size()), std::move(handler));
    });
  });
}

Result<std::string> WebSocketClient::read() {
  beast::flat_buffer buffer;
  BERTH_TRY(impl_->wait("read",
                        [&](auto handler) {
                          impl_->with([&](auto& stream) { stream.async_read(buffer, std::move(handler)); });
                        }),
            "WebSocket");
  return beast::buffers_to_string(buffer.data());
}

Result<> WebSocketClient::close() {
  return impl_->wait("close", [&](auto handler) {
    impl_->with([&](auto& stream) { stream.async_close(websocket::close_code::normal, std::move(handler)); });
  });
}

}  // namespace berth::test
