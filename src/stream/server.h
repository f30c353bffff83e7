#pragma once
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "base/result.h"
#include "stream/http_front.h"
#include "stream/remote_command.h"
#include "stream/tokens.h"
#include "ttrpc/reactor.h"

namespace berth::ttrpc {
class Server;
}
namespace berth::stream {

struct ServerOptions {
  std::string folder;    ///< the server's own: the control socket, a folder for each session
  std::string address;   ///< numeric, to listen on
  unsigned port = 0;     ///< 0: the kernel's choice
  std::string tls_cert;  ///< PEM files; empty: no TLS
  std::string tls_key;
  std::string settings{};           ///< whatever its starter wants to know it by; told by Info
  std::chrono::seconds linger{60};  ///< how long it stays without daemon and sessions
};

/// The name of the control socket in the server's folder.
inline constexpr const char* kControlSocket = "control.sock";

/// The server of exec, attach and port-forward sessions. Two threads: sessions are on the one that calls run(), the
/// shims' answers and the control socket on the reactor's.
class Server final {
 public:
  static constexpr std::size_t kMaxSessions = 4096;
  static constexpr std::size_t kMaxHeads = 1024;  ///< connections that have shown no token yet; others wait

  /// Listens on both sockets and sets out to remove what a server before left. Errors: kInvalid address, certificate or
  /// key; kExists another server runs; else by errno.
  [[nodiscard]] static Result<std::unique_ptr<Server>> open(ServerOptions options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  Server(Server&&) = delete;
  Server& operator=(Server&&) = delete;

  /// "http://127.0.0.1:40123"
  [[nodiscard]] const std::string& base_url() const { return base_url_; }
  /// Until stop(), or until nobody needs it any more.
  void run();
  /// Thread-safe.
  void stop();
  /// Takes no more sessions, ends with the last. Thread-safe.
  void drain();

 private:
  Server(ServerOptions options, std::unique_ptr<ttrpc::Reactor> reactor);
  /// What a connection is counted by, from its acceptance to its last byte.
  struct Load {
    std::atomic<std::size_t> open = 0;  ///< also read where the control socket is served
    std::size_t heads = 0;              ///< of these, not upgraded yet: whoever can connect can have one
    std::function<void()> changed;
  };
  class Ticket;

  Result<> load_tls();
  boost::asio::ssl::context* tls();
  Result<> listen();
  Result<> serve_control();
  void accept_more();
  UpgradeAnswer decide(const UpgradeRequest& request, const std::shared_ptr<Ticket>& ticket);
  UpgradeAnswer start_command(SessionSpec spec, const UpgradeRequest& request, std::shared_ptr<Ticket> ticket);
  UpgradeAnswer start_port_forward(SessionSpec spec, const UpgradeRequest& request, std::shared_ptr<Ticket> ticket);
  template <class Session, class... Args>
  std::shared_ptr<Session> make_session(Args&&... args);
  void look_whether_needed();
  void end_if_drained();

  ServerOptions options_;
  std::string base_url_;
  std::unique_ptr<ttrpc::Reactor> reactor_;
  boost::asio::io_context io_{1};
  boost::asio::ip::tcp::acceptor acceptor_{io_};
  boost::asio::steady_timer retry_{io_};
  std::optional<boost::asio::ssl::context> tls_;
  std::string tls_mark_;  // of the files that it was read from
  // For the thread of run() alone, as are the connections.
  std::shared_ptr<Load> load_ = std::make_shared<Load>();
  bool accepting_ = false;
  Tokens tokens_{std::chrono::seconds(60)};
  std::atomic<std::size_t> sessions_{0};
  std::atomic<bool> draining_{false};
  SessionContext context_;
  // For the reactor's thread alone.
  std::unique_ptr<ttrpc::Server> control_;
  SteadyTime needed_at_{};
  std::thread cleaner_;  // of what a server before left
};

}  // namespace berth::stream
