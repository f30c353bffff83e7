#pragma once
#include <memory>
#include <string>

#include "base/result.h"

namespace berth::cri {
class Service;
}
namespace berth::image {
class Store;
}

namespace berth::rpc {

/// The gRPC server of berthd: RuntimeService, ImageService and Operator on one unix socket.
class Server {
 public:
  /// Listens on the unix socket `path` (mode 0660; a dead socket file there is replaced, a live one is kExists).
  /// Messages up to 16 MiB are taken, as the kubelet sends them; larger ones end their call with RESOURCE_EXHAUSTED.
  /// `service` and `images` are borrowed and must outlive the server.
  static Result<std::unique_ptr<Server>> start(const std::string& path, cri::Service& service, image::Store& images);

  Server() = default;
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  Server(Server&&) = delete;
  Server& operator=(Server&&) = delete;
  /// Refuses new calls, cancels running ones after two seconds, waits for their bodies and removes the socket file.
  virtual ~Server() = default;
};

}  // namespace berth::rpc
