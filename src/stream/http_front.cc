// First: Asio 1.18 uses std::exchange without it.
#include <utility>

#include <boost/asio/dispatch.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/websocket/ssl.hpp>
#include <chrono>
#include <deque>

#include "base/log.h"
#include "base/strings.h"
#include "os/tcp.h"
#include "stream/http_front.h"

namespace berth::stream {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;
using asio::ip::tcp;
using beast::error_code;

constexpr std::size_t kMaxHead = 16U << 10;
constexpr std::chrono::seconds kHeadTime{30};
// After our last byte, for the peer to read it and close.
constexpr std::chrono::seconds kCloseTime{10};
// Before it, a peer that takes nothing at all.
constexpr std::chrono::seconds kStuckTime{120};
// While nothing is read, the end of the connection is looked for.
constexpr std::chrono::seconds kLook{5};
constexpr std::size_t kReadBytes = 64U << 10;
constexpr std::size_t kMaxGather = 64;

using PlainStream = beast::tcp_stream;
using TlsStream = beast::ssl_stream<beast::tcp_stream>;

tcp::socket& socket_of(PlainStream& stream) {
  return stream.socket();
}
tcp::socket& socket_of(TlsStream& stream) {
  return stream.next_layer().socket();
}
template <class Stream>
tcp::socket& socket_of(websocket::stream<Stream>& stream) {
  return socket_of(stream.next_layer());
}

Error gone(const error_code& error) {
  return {Code::kUnavailable, error == asio::error::eof ? "the client has closed the connection" : error.message()};
}

// What byte streams and WebSocket have in common: the queue, pausing, the end. `Derived` reads and writes.
template <class Derived, class Stream>
class WireBase : public Wire, public std::enable_shared_from_this<Derived> {
 public:
  void start(std::shared_ptr<WireHandler> handler) override {
    handler_ = std::move(handler);
    self()->read_more();
  }
  void send(std::string bytes) override {
    if (closing_ || gone_) return;
    unsent_ += bytes.size();
    queue_.push_back(std::move(bytes));
    self()->write_more();
  }
  [[nodiscard]] std::size_t unsent() const override { return unsent_; }
  void pause(bool paused) override {
    if (paused_ == paused || closing_ || gone_) return;
    paused_ = paused;
    if (paused_) return look_for_end();
    timer_.cancel();
    if (handler_) self()->read_more();
  }
  void close() override {
    if (closing_) return;
    closing_ = true;
    // The handler hears no more.
    handler_.reset();
    if (gone_) return;
    paused_ = false;
    bound_end();
    self()->read_more();
    self()->write_more();
  }

 protected:
  Derived* self() { return static_cast<Derived*>(this); }

  // Whether the reader goes on; what comes after close() is read and dropped, or the peer would get a reset instead of
  // our last bytes.
  bool take(std::string_view bytes, bool first) {
    if (const auto handler = handler_; handler) handler->on_bytes(bytes, first);
    return !gone_ && !paused_;
  }
  void sent(std::size_t bytes) {
    const bool was_high = unsent_ >= kLowWater;
    unsent_ -= bytes;
    if (closing_) bound_end();
    if (!was_high || unsent_ >= kLowWater) return;
    if (const auto handler = handler_; handler) handler->on_writable();
  }
  void broken(const error_code& error) {
    if (gone_) return;
    shut();
    if (const auto handler = std::exchange(handler_, nullptr); handler) handler->on_gone(gone(error));
  }
  // After close(), from the last progress on.
  void bound_end() {
    timer_.expires_after(queue_.empty() ? kCloseTime : kStuckTime);
    timer_.async_wait([keep = this->shared_from_this()](const error_code& error) {
      if (!error) keep->shut();
    });
  }
  void shut() {
    gone_ = true;
    timer_.cancel();
    // A write that is under way reads from it yet.
    if (!writing_) queue_.clear();
    unsent_ = 0;
    error_code ignored;
    socket_of(stream_).close(ignored);
  }
  void look_for_end() {
    timer_.expires_after(kLook);
    timer_.async_wait([keep = this->shared_from_this()](const error_code& error) {
      if (error || !keep->paused_ || keep->gone_) return;
      if (os::peer_has_closed(socket_of(keep->stream_).native_handle())) return keep->broken(asio::error::eof);
      keep->look_for_end();
    });
  }

  Stream stream_;
  asio::steady_timer timer_;
  std::shared_ptr<WireHandler> handler_;
  std::deque<std::string> queue_;
  std::size_t unsent_ = 0;
  bool reading_ = false;
  bool writing_ = false;
  bool paused_ = false;
  bool closing_ = false;
  bool gone_ = false;

 private:
  explicit WireBase(Stream stream) : stream_(std::move(stream)), timer_(stream_.get_executor()) {}
  friend Derived;
};

template <class Stream>
class ByteWire final : public WireBase<ByteWire<Stream>, Stream> {
 public:
  // `early`: read already, with the head of the request.
  ByteWire(Stream stream, std::string early)
      : WireBase<ByteWire, Stream>(std::move(stream)), early_(std::move(early)), buffer_(kReadBytes) {}

  void read_more() {
    if (this->reading_ || this->gone_ || this->paused_) return;
    this->reading_ = true;
    if (!early_.empty()) {
      return asio::post(this->stream_.get_executor(), [keep = this->shared_from_this()] {
        const std::string bytes = std::exchange(keep->early_, {});
        const bool more = keep->take(bytes, true);
        keep->reading_ = false;
        if (more) keep->read_more();
      });
    }
    this->stream_.async_read_some(asio::buffer(buffer_),
                                  [keep = this->shared_from_this()](const error_code& error, std::size_t count) {
                                    if (error) return keep->broken(error);
                                    // Whoever resumes us meanwhile must not begin a read into what is looked at.
                                    const bool more = keep->take(std::string_view(keep->buffer_.data(), count), true);
                                    keep->reading_ = false;
                                    if (more) keep->read_more();
                                  });
  }

  void write_more() {
    if (this->writing_ || this->gone_) return;
    if (this->queue_.empty()) {
      if (this->closing_) end_our_side();
      return;
    }
    std::vector<asio::const_buffer> buffers;
    for (const auto& bytes : this->queue_) {
      if (buffers.size() == kMaxGather) break;
      buffers.emplace_back(bytes.data(), bytes.size());
    }
    this->writing_ = true;
    asio::async_write(
        this->stream_, buffers,
        [keep = this->shared_from_this(), count = buffers.size()](const error_code& error, std::size_t size) {
          keep->writing_ = false;
          if (keep->gone_) return;
          if (error) return keep->broken(error);
          keep->queue_.erase(keep->queue_.begin(), keep->queue_.begin() + static_cast<std::ptrdiff_t>(count));
          keep->sent(size);
          keep->write_more();
        });
  }

 private:
  void end_our_side() {
    if (std::exchange(ended_, true)) return;
    error_code ignored;
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      this->stream_.async_shutdown([keep = this->shared_from_this()](const error_code&) { keep->shut(); });
    } else {
      socket_of(this->stream_).shutdown(tcp::socket::shutdown_send, ignored);
    }
  }

  std::string early_;
  std::vector<char> buffer_;
  bool ended_ = false;
};

template <class Stream>
class WebSocketWire final : public WireBase<WebSocketWire<Stream>, websocket::stream<Stream>> {
 public:
  using Base = WireBase<WebSocketWire, websocket::stream<Stream>>;
  explicit WebSocketWire(websocket::stream<Stream> stream) : Base(std::move(stream)) {}

  void read_more() {
    if (this->reading_ || this->gone_ || this->paused_ || closed_) return;
    this->reading_ = true;
    this->stream_.async_read_some(
        buffer_, kReadBytes, [keep = this->shared_from_this()](const error_code& error, std::size_t /*count*/) {
          if (error) return keep->broken(error == websocket::error::closed ? error_code(asio::error::eof) : error);
          const bool first = std::exchange(keep->first_, keep->stream_.is_message_done());
          const auto bytes = keep->buffer_.data();
          const bool more = keep->take(std::string_view(static_cast<const char*>(bytes.data()), bytes.size()), first);
          keep->buffer_.consume(keep->buffer_.size());
          keep->reading_ = false;
          if (more) keep->read_more();
        });
  }

  void write_more() {
    if (this->writing_ || this->gone_) return;
    if (this->queue_.empty()) {
      if (this->closing_) say_goodbye();
      return;
    }
    this->writing_ = true;
    this->stream_.async_write(asio::buffer(this->queue_.front()),
                              [keep = this->shared_from_this()](const error_code& error, std::size_t size) {
                                keep->writing_ = false;
                                if (keep->gone_) return;
                                if (error) return keep->broken(error);
                                keep->queue_.pop_front();
                                keep->sent(size);
                                keep->write_more();
                              });
  }

 private:
  // Reads until the peer's answer.
  void say_goodbye() {
    if (std::exchange(closed_, true)) return;
    this->stream_.async_close(websocket::close_code::normal,
                              [keep = this->shared_from_this()](const error_code&) { keep->shut(); });
  }

  beast::flat_buffer buffer_;
  bool first_ = true;
  bool closed_ = false;
};

template <class Stream>
class HttpConnection final : public std::enable_shared_from_this<HttpConnection<Stream>> {
 public:
  using Decide = std::function<UpgradeAnswer(const UpgradeRequest&)>;

  HttpConnection(Stream stream, Decide decide) : stream_(std::move(stream)), decide_(std::move(decide)) {}

  void start() {
    beast::get_lowest_layer(stream_).expires_after(kHeadTime);
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      stream_.async_handshake(asio::ssl::stream_base::server,
                              [self = this->shared_from_this()](const error_code& error) {
                                if (!error) self->read_head();
                              });
    } else {
      read_head();
    }
  }

 private:
  void read_head() {
    parser_.header_limit(kMaxHead);
    http::async_read_header(stream_, buffer_, parser_,
                            [self = this->shared_from_this()](const error_code& error, std::size_t) {
                              if (!error) return self->decide();
                              if (error != http::error::end_of_stream && error != beast::error::timeout) {
                                self->refuse({.status = 400, .text = "malformed request"});
                              }
                            });
  }

  void decide() {
    const auto& head = parser_.get();
    std::string_view path(head.target().data(), head.target().size());
    path = path.substr(0, path.find('?'));
    UpgradeRequest request;
    if (path.starts_with('/')) path.remove_prefix(1);
    const std::size_t slash = path.find('/');
    request.kind = path.substr(0, slash);
    if (slash != std::string_view::npos) request.token = path.substr(slash + 1);
    if (head.method() != http::verb::get && head.method() != http::verb::post) {
      return refuse({.status = 405, .text = "GET or POST"});
    }
    request.websocket = websocket::is_upgrade(head);
    if (!request.websocket && (!http::token_list(head[http::field::connection]).exists("upgrade") ||
                               !beast::iequals(head[http::field::upgrade], "SPDY/3.1"))) {
      return refuse({.status = 400, .text = "this needs an upgrade to SPDY/3.1 or WebSocket"});
    }
    const auto name = request.websocket ? "Sec-WebSocket-Protocol" : "X-Stream-Protocol-Version";
    const auto [begin, end] = head.equal_range(name);
    for (auto at = begin; at != end; ++at) {
      const std::string_view list(at->value().data(), at->value().size());
      for (const auto part : split(list, ',')) {
        if (!trim(part).empty()) request.protocols.emplace_back(trim(part));
      }
    }
    UpgradeAnswer answer = decide_(request);
    if (answer.status != 101) return refuse(answer);
    request.websocket ? upgrade_websocket(std::move(answer)) : upgrade_spdy(std::move(answer));
  }

  void upgrade_spdy(UpgradeAnswer answer) {
    reply_ = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n";
    if (!answer.protocol.empty()) reply_ += "X-Stream-Protocol-Version: " + answer.protocol + "\r\n";
    reply_ += "\r\n";
    asio::async_write(
        stream_, asio::buffer(reply_),
        [self = this->shared_from_this(), answer = std::move(answer)](const error_code& error, std::size_t) {
          if (error) return;
          beast::get_lowest_layer(self->stream_).expires_never();
          std::string early = beast::buffers_to_string(self->buffer_.data());
          answer.run(std::make_shared<ByteWire<Stream>>(std::move(self->stream_), std::move(early)));
        });
  }

  void upgrade_websocket(UpgradeAnswer answer) {
    beast::get_lowest_layer(stream_).expires_never();
    // The head is read already, and a client of WebSocket sends nothing before our answer.
    auto socket = std::make_shared<websocket::stream<Stream>>(std::move(stream_));
    socket->set_option(websocket::stream_base::timeout{kHeadTime, websocket::stream_base::none(), false});
    socket->set_option(websocket::stream_base::decorator([protocol = answer.protocol](websocket::response_type& reply) {
      if (!protocol.empty()) reply.set(http::field::sec_websocket_protocol, protocol);
    }));
    socket->binary(!answer.text_messages);
    // Messages are passed on in pieces: their size costs nothing.
    socket->read_message_max(0);
    socket->async_accept(
        parser_.get(), [self = this->shared_from_this(), socket, answer = std::move(answer)](const error_code& error) {
          if (!error) answer.run(std::make_shared<WebSocketWire<Stream>>(std::move(*socket)));
        });
  }

  void refuse(const UpgradeAnswer& answer) {
    auto reply = std::make_shared<http::response<http::string_body>>();
    reply->version(11);
    reply->result(answer.status);
    reply->keep_alive(false);
    reply->set(http::field::content_type, "text/plain; charset=utf-8");
    for (const auto& protocol : answer.accepted) reply->insert("X-Accepted-Stream-Protocol-Versions", protocol);
    reply->body() = answer.text + "\n";
    reply->prepare_payload();
    http::async_write(stream_, *reply, [self = this->shared_from_this(), reply](const error_code&, std::size_t) {
      error_code ignored;
      socket_of(self->stream_).shutdown(tcp::socket::shutdown_send, ignored);
    });
  }

  Stream stream_;
  Decide decide_;
  beast::flat_buffer buffer_{kMaxHead + kReadBytes};
  http::request_parser<http::empty_body> parser_;
  std::string reply_;
};

}  // namespace

void serve_http(tcp::socket socket, asio::ssl::context* tls,
                std::function<UpgradeAnswer(const UpgradeRequest&)> decide) {
  if (tls != nullptr) {
    std::make_shared<HttpConnection<TlsStream>>(TlsStream(std::move(socket), *tls), std::move(decide))->start();
  } else {
    std::make_shared<HttpConnection<PlainStream>>(PlainStream(std::move(socket)), std::move(decide))->start();
  }
}

}  // namespace berth::stream
