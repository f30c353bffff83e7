#include "rpc/server.h"

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "os/file.h"
#include "os/socket.h"
#include "rpc/image_service.h"
#include "rpc/lanes.h"
#include "rpc/operator_service.h"
#include "rpc/runtime_service.h"

namespace berth::rpc {
namespace {

// What kubelets send at most (their own client's limit).
constexpr int kMaxMessageBytes = 16 << 20;
constexpr std::chrono::seconds kShutdownGrace{2};

class GrpcServer final : public Server {
 public:
  GrpcServer(std::string path, cri::Service& service, image::Store& images)
      : path_(std::move(path)),
        runtime_(service, lanes_),
        image_(service, lanes_),
        operator_(service, images, lanes_) {}
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;
  GrpcServer(GrpcServer&&) = delete;
  GrpcServer& operator=(GrpcServer&&) = delete;

  ~GrpcServer() override {
    if (!server_) return;
    runtime_.end_streams();
    server_->Shutdown(std::chrono::system_clock::now() + kShutdownGrace);
    server_->Wait();
    ::unlink(path_.c_str());
  }

  Result<> listen() {
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.SetMaxSendMessageSize(-1);
    // The peer is on this machine: no keepalive traffic, no bandwidth probing, no retry of a taken address.
    builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddListeningPort("unix:" + path_, grpc::InsecureServerCredentials());
    builder.RegisterService(&runtime_);
    builder.RegisterService(&image_);
    builder.RegisterService(&operator_);
    server_ = builder.BuildAndStart();
    if (!server_) return fail(Code::kUnavailable, "listen on " + path_ + ": gRPC could not start");
    if (::chmod(path_.c_str(), 0660) != 0) return fail_errno(errno, "chmod " + path_);
    return {};
  }

 private:
  const std::string path_;
  Lanes lanes_;
  RuntimeService runtime_;
  ImageService image_;
  OperatorService operator_;
  std::unique_ptr<grpc::Server> server_;
};

// gRPC would take over another daemon's socket file without a word.
Result<> clear_dead_socket(const std::string& path) {
  if (!os::exists(path)) return {};
  const auto peer = os::unix_connect(path, std::chrono::milliseconds(500));
  if (peer) return fail(Code::kExists, "another daemon listens on " + path);
  if (peer.error().code() != Code::kUnavailable) return fail(peer.error().in("look at " + path));
  return os::remove_file(path);
}

}  // namespace

Result<std::unique_ptr<Server>> Server::start(const std::string& path, cri::Service& service, image::Store& images) {
  BERTH_TRY(clear_dead_socket(path), "start the server");
  auto server = std::make_unique<GrpcServer>(path, service, images);
  BERTH_TRY(server->listen(), "start the server");
  return server;
}

}  // namespace berth::rpc
