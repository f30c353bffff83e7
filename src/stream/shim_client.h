#pragma once
#include <sys/types.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "ttrpc/typed.h"

namespace berth::stream {

/// One session's connection to a pod's shim. Calls are answered on the thread of the io_context.
class ShimClient final {
 public:
  /// Connects to the socket. `on_lost` is called at most once, when the shim has gone; after its calls have failed.
  /// Blocks for less than a second. Errors: as for os::unix_connect.
  [[nodiscard]] static Result<std::unique_ptr<ShimClient>> connect(ttrpc::Reactor& reactor, boost::asio::io_context& io,
                                                                   const std::string& socket_path,
                                                                   std::function<void(const Error&)> on_lost);

  /// Who listens at the other end: of use once a call was answered, as it lived until then.
  [[nodiscard]] pid_t pid() const { return pid_; }

  /// `done` is called once with a Result<Reply>. Without a timeout the answer may take for ever.
  template <ttrpc::Message Reply, ttrpc::Message Request, class Done>
  void call(std::string_view service, std::string_view method, const Request& request,
            std::optional<std::chrono::milliseconds> timeout, Done done) {
    const auto options = timeout ? ttrpc::CallOptions::within(*timeout) : ttrpc::CallOptions();
    ttrpc::call_async<Reply>(
        *client_, service, method, request,
        [&io = io_, done = std::move(done), name = std::string(method)](Result<Reply> reply) mutable {
          if (!reply) reply = fail(std::move(reply).error().in("shim " + name));
          boost::asio::post(io,
                            [done = std::move(done), reply = std::move(reply)]() mutable { done(std::move(reply)); });
        },
        options);
  }

 private:
  ShimClient(boost::asio::io_context& io, pid_t pid) : io_(io), pid_(pid) {}

  boost::asio::io_context& io_;
  pid_t pid_;
  std::unique_ptr<ttrpc::Client> client_;
};

}  // namespace berth::stream
