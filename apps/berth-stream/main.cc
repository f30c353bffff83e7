// The server of exec, attach and port-forward sessions: its own process, so that they outlive berthd.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdio>
#include <memory>
#include <thread>

#include "base/log.h"
#include "os/file.h"
#include "stream/server.h"

namespace {

using berth::Result;

// A session has up to six descriptors.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

// SIGTERM lets sessions end, a second one does not wait for them.
void handle_signals(const sigset_t& signals, berth::stream::Server& server) {
  int signal = 0;
  for (int count = 0; count < 2; ++count) {
    if (::sigwait(&signals, &signal) != 0) return;
    if (signal == SIGUSR1) return;  // run() is over
    count == 0 ? server.drain() : server.stop();
  }
}

Result<> serve(berth::stream::ServerOptions options) {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) ::sigaddset(&signals, signal);
  // Before the first thread, so that all inherit it and sigwait() alone takes them.
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  BERTH_ASSIGN(const auto server, berth::stream::Server::open(std::move(options)), "start");
  // Tells whoever started us that we are there; the end of the line's file says that nothing more comes.
  BERTH_TRY(berth::os::write_all(STDOUT_FILENO, server->base_url() + "\n"), "ready");
  std::fclose(stdout);
  std::thread watcher([&] { handle_signals(signals, *server); });
  server->run();
  ::pthread_kill(watcher.native_handle(), SIGUSR1);
  watcher.join();
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"berth-stream: the server of exec, attach and port-forward sessions; berthd starts it"};
  app.set_version_flag("--version", std::string("berth-stream ") + BERTH_VERSION);
  berth::stream::ServerOptions options;
  unsigned linger = 60;
  app.add_option("--folder", options.folder, "its own folder: control socket, sessions")->required();
  app.add_option("--address", options.address, "numeric address to listen on")->required();
  app.add_option("--port", options.port, "port to listen on; 0: any");
  app.add_option("--tls-cert", options.tls_cert, "PEM file of the certificate chain");
  app.add_option("--tls-key", options.tls_key, "PEM file of its key");
  app.add_option("--settings", options.settings, "any text, for the daemon to see whether it would start it so again");
  app.add_option("--linger", linger, "seconds to stay without daemon and sessions");
  CLI11_PARSE(app, argc, argv);
  options.linger = std::chrono::seconds(linger);
  if (auto done = serve(std::move(options)); !done) {
    std::fprintf(stderr, "berth-stream: %s\n", done.error().text().c_str());
    return 1;
  }
  return 0;
}
