#include "stream/shim_client.h"

#include "os/socket.h"

namespace berth::stream {
namespace {

constexpr std::chrono::milliseconds kConnect{500};

}  // namespace

Result<std::unique_ptr<ShimClient>> ShimClient::connect(ttrpc::Reactor& reactor, boost::asio::io_context& io,
                                                        const std::string& socket_path,
                                                        std::function<void(const Error&)> on_lost) {
  BERTH_ASSIGN(UniqueFd socket, os::unix_connect(socket_path, kConnect), "connect to the shim");
  BERTH_ASSIGN(const auto peer, os::peer_credentials(socket.get()), "connect to the shim");
  std::unique_ptr<ShimClient> client(new ShimClient(io, peer.pid));
  ttrpc::ClientOptions options;
  options.on_disconnect = [&io, on_lost = std::move(on_lost)](const Error& reason) {
    // Our own end of the connection is no loss.
    if (reason.code() == Code::kCancelled) return;
    boost::asio::post(io, [on_lost, reason] { on_lost(reason); });
  };
  BERTH_ASSIGN(client->client_, ttrpc::Client::adopt(reactor, std::move(socket), std::move(options)),
               "connect to the shim");
  return client;
}

}  // namespace berth::stream
