#include "stream/server.h"

#include <array>
#include <span>
#include <thread>

#include "base/log.h"
#include "os/file.h"
#include "os/tcp.h"
#include "stream/control.h"
#include "stream/leftover.h"
#include "stream/port_forward.h"
#include "ttrpc/server.h"

namespace berth::stream {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr std::chrono::seconds kLook{1};
constexpr std::chrono::milliseconds kAcceptPause{100};

constexpr std::array<std::string_view, 4> kSpdyCommand = {"v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io",
                                                          "channel.k8s.io"};
constexpr std::array<std::string_view, 5> kWebSocketCommand = {
    "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io"};
constexpr std::array<std::string_view, 1> kSpdyForward = {"portforward.k8s.io"};
constexpr std::string_view kTunnel = "SPDY/3.1+portforward.k8s.io";
constexpr std::array<std::string_view, 2> kWebSocketForward = {kTunnel, "v4.channel.k8s.io"};

// The client's first choice among ours. One that names none speaks the oldest.
std::optional<std::string> choose(const std::vector<std::string>& asked, std::span<const std::string_view> ours) {
  if (asked.empty()) return std::string();
  for (const auto& protocol : asked) {
    for (const auto known : ours) {
      if (protocol == known) return protocol;
    }
  }
  return std::nullopt;
}

UpgradeAnswer no_protocol(std::span<const std::string_view> ours) {
  UpgradeAnswer answer{.status = 403, .text = "none of the protocols that were asked for is spoken here"};
  for (const auto protocol : ours) answer.accepted.emplace_back(protocol);
  return answer;
}

std::string url_of(const ServerOptions& options, unsigned port) {
  const bool v6 = options.address.find(':') != std::string::npos;
  std::string host = v6 ? "[" + options.address + "]" : options.address;
  // Whoever asks for the URL is on this node.
  if (options.address == "0.0.0.0") host = "127.0.0.1";
  if (options.address == "::") host = "[::1]";
  return (options.tls_cert.empty() ? "http://" : "https://") + host + ":" + std::to_string(port);
}

}  // namespace

class Server::Ticket final {
 public:
  explicit Ticket(std::shared_ptr<Load> load) : load_(std::move(load)) {
    ++load_->open;
    ++load_->heads;
  }
  ~Ticket() {
    upgraded();
    --load_->open;
    if (load_->changed) load_->changed();
  }
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;
  Ticket(Ticket&&) = delete;
  Ticket& operator=(Ticket&&) = delete;

  void upgraded() {
    if (std::exchange(is_head_, false)) --load_->heads;
  }

 private:
  std::shared_ptr<Load> load_;
  bool is_head_ = true;
};

Server::Server(ServerOptions options, std::unique_ptr<ttrpc::Reactor> reactor)
    : options_(std::move(options)),
      reactor_(std::move(reactor)),
      context_{io_, *reactor_, options_.folder + "/sessions"} {}

Result<std::unique_ptr<Server>> Server::open(ServerOptions options) {
  BERTH_TRY(os::make_dirs(options.folder + "/sessions", 0700), "folder");
  BERTH_ASSIGN(auto reactor, ttrpc::Reactor::create(), "reactor");
  std::unique_ptr<Server> server(new Server(std::move(options), std::move(reactor)));
  BERTH_TRY(server->load_tls(), "TLS");
  BERTH_ASSIGN(const auto left, os::list_dir(server->context_.folder), "sessions");
  BERTH_TRY(server->serve_control(), "control socket");
  BERTH_TRY(server->listen(), "listen");
  if (!left.empty()) {
    std::vector<std::string> folders;
    for (const auto& name : left) folders.push_back(server->context_.folder + "/" + name);
    // Aside: a shim may hang.
    server->cleaner_ = std::thread(
        [&reactor = *server->reactor_, folders = std::move(folders)] { remove_leftovers(reactor, folders); });
  }
  return server;
}

Server::~Server() {
  load_->changed = nullptr;
  if (cleaner_.joinable()) cleaner_.join();
  // On its own thread, where its connections are.
  reactor_->post([this] { control_.reset(); });
  reactor_->drain();
}

Result<> Server::load_tls() {
  if (options_.tls_cert.empty()) return {};
  tls_mark_ = os::file_mark(options_.tls_cert) + " " + os::file_mark(options_.tls_key);
  asio::ssl::context read(asio::ssl::context::tls_server);
  error_code error;
  (void)read.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_sslv2 |
                             asio::ssl::context::no_sslv3 | asio::ssl::context::no_tlsv1 |
                             asio::ssl::context::no_tlsv1_1,
                         error);
  (void)read.use_certificate_chain_file(options_.tls_cert, error);
  if (error) return fail(Code::kInvalid, "certificate " + options_.tls_cert + ": " + error.message());
  (void)read.use_private_key_file(options_.tls_key, asio::ssl::context::pem, error);
  if (error) return fail(Code::kInvalid, "key " + options_.tls_key + ": " + error.message());
  tls_.emplace(std::move(read));
  return {};
}

// For the next connection: a renewed certificate is taken as soon as it and its key fit.
asio::ssl::context* Server::tls() {
  if (options_.tls_cert.empty()) return nullptr;
  if (os::file_mark(options_.tls_cert) + " " + os::file_mark(options_.tls_key) != tls_mark_) {
    if (auto done = load_tls(); !done) log_warn("the TLS files before are used on", {{"err", done.error().text()}});
  }
  return &*tls_;
}

Result<> Server::listen() {
  BERTH_ASSIGN(UniqueFd listener, os::tcp_listen(options_.address, options_.port), "sessions");
  BERTH_ASSIGN(const unsigned port, os::local_port(listener.get()), "sessions");
  base_url_ = url_of(options_, port);
  const bool v6 = options_.address.find(':') != std::string::npos;
  load_->changed = [this] {
    if (!accepting_ && acceptor_.is_open()) accept_more();
    end_if_drained();
  };
  acceptor_.assign(v6 ? asio::ip::tcp::v6() : asio::ip::tcp::v4(), listener.release());
  accept_more();
  return {};
}

Result<> Server::serve_control() {
  ControlHooks hooks;
  hooks.prepare = [this](SessionSpec spec) -> Result<std::string> {
    if (draining_) return fail(Code::kUnavailable, "the server takes no more sessions");
    const std::string kind(kind_name(spec.kind));
    BERTH_ASSIGN(const std::string token, tokens_.add(std::move(spec)), "prepare");
    return base_url_ + "/" + kind + "/" + token;
  };
  hooks.info = [this] { return ControlInfo{options_.settings, sessions_.load(), base_url_}; };
  hooks.drain = [this] { drain(); };
  Result<> served;
  reactor_->post([this, &hooks, &served] {
    control_ = std::make_unique<ttrpc::Server>(reactor_->loop());
    serve_control_api(*control_, std::move(hooks));
    served = listen_control(*control_, options_.folder + "/" + kControlSocket);
    needed_at_ = std::chrono::steady_clock::now();
    reactor_->loop().add_periodic(kLook, [this] { look_whether_needed(); });
  });
  reactor_->drain();
  return served;
}

void Server::look_whether_needed() {
  const auto now = std::chrono::steady_clock::now();
  // A connection outlives its session while its client has not read all of it.
  const bool needed = control_ == nullptr || control_->connection_count() > 0 || sessions_ > 0 ||
                      tokens_.waiting() > 0 || load_->open > 0;
  if (needed) needed_at_ = now;
  if (now - needed_at_ >= options_.linger) stop();
}

void Server::accept_more() {
  accepting_ = load_->heads < kMaxHeads;
  if (!accepting_) return;
  acceptor_.async_accept([this](const error_code& error, asio::ip::tcp::socket socket) {
    if (!acceptor_.is_open()) return;
    if (error) {
      // No descriptor left, or a connection that went before it was taken.
      retry_.expires_after(kAcceptPause);
      return retry_.async_wait([this](const error_code& stopped) {
        if (!stopped && acceptor_.is_open()) accept_more();
      });
    }
    ignore(os::keep_alive(socket.native_handle()), "a dead peer is found by the next write");
    error_code ignored;
    (void)socket.set_option(asio::ip::tcp::no_delay(true), ignored);
    serve_http(std::move(socket), tls(),
               [this, ticket = std::make_shared<Ticket>(load_)](const UpgradeRequest& request) {
                 return decide(request, ticket);
               });
    accept_more();
  });
}

UpgradeAnswer Server::decide(const UpgradeRequest& request, const std::shared_ptr<Ticket>& ticket) {
  if (sessions_ >= kMaxSessions) return {.status = 503, .text = "too many sessions"};
  auto spec = tokens_.take(request.kind, request.token);
  if (!spec) return {.status = 404, .text = "no such session: its URL is good once, for a minute"};
  return spec->kind == SessionSpec::Kind::kPortForward ? start_port_forward(std::move(*spec), request, ticket)
                                                       : start_command(std::move(*spec), request, ticket);
}

// Counts itself until it is destroyed.
template <class Session, class... Args>
std::shared_ptr<Session> Server::make_session(Args&&... args) {
  ++sessions_;
  return std::shared_ptr<Session>(new Session(std::forward<Args>(args)...), [this](Session* session) {
    delete session;
    --sessions_;
    end_if_drained();
  });
}

UpgradeAnswer Server::start_command(SessionSpec spec, const UpgradeRequest& request, std::shared_ptr<Ticket> ticket) {
  const std::span<const std::string_view> ours =
      request.websocket ? std::span<const std::string_view>(kWebSocketCommand) : kSpdyCommand;
  const auto protocol = choose(request.protocols, ours);
  if (!protocol) return no_protocol(ours);
  UpgradeAnswer answer;
  answer.protocol = *protocol;
  answer.text_messages = protocol->find("base64") != std::string::npos;
  answer.run = [this, spec = std::move(spec), protocol = *protocol, websocket = request.websocket,
                ticket = std::move(ticket)](std::shared_ptr<Wire> wire) {
    ticket->upgraded();
    wire->hold(ticket);
    auto channels = websocket ? websocket_channels(std::move(wire), spec.channels, protocol)
                              : spdy_channels(std::move(wire), spec.channels, protocol);
    make_session<RemoteCommand>(context_, spec, std::move(channels))->start();
  };
  return answer;
}

UpgradeAnswer Server::start_port_forward(SessionSpec spec, const UpgradeRequest& request,
                                         std::shared_ptr<Ticket> ticket) {
  const std::span<const std::string_view> ours =
      request.websocket ? std::span<const std::string_view>(kWebSocketForward) : kSpdyForward;
  const auto protocol = choose(request.protocols, ours);
  if (!protocol) return no_protocol(ours);
  const bool spdy = !request.websocket || *protocol == kTunnel;
  if (!spdy && spec.ports.empty()) return {.status = 400, .text = "this protocol needs the ports beforehand"};
  UpgradeAnswer answer;
  answer.protocol = *protocol;
  answer.run = [this, spec = std::move(spec), spdy, ticket = std::move(ticket)](std::shared_ptr<Wire> wire) {
    ticket->upgraded();
    wire->hold(ticket);
    if (spdy) {
      make_session<PortForward>(context_, spec, std::move(wire))->start();
    } else {
      make_session<WebSocketPortForward>(context_, spec, std::move(wire))->start();
    }
  };
  return answer;
}

void Server::run() {
  io_.run();
}

void Server::stop() {
  io_.stop();
}

void Server::drain() {
  draining_ = true;
  reactor_->post([this] {
    if (control_) control_->stop_listening();
  });
  asio::post(io_, [this] {
    error_code ignored;
    (void)acceptor_.close(ignored);
    end_if_drained();
  });
}

void Server::end_if_drained() {
  if (draining_ && sessions_ == 0 && load_->open == 0) stop();
}

}  // namespace berth::stream
