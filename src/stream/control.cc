#include "stream/control.h"

#include <unistd.h>

#include <memory>

#include "berth/stream/v1/stream.pb.h"
#include "berth/wkt/wkt.pb.h"
#include "os/socket.h"
#include "ttrpc/typed.h"

namespace berth::stream {
namespace {

namespace pb = ::berth::stream::v1;
using Empty = ::berth::wkt::Empty;

constexpr const char* kService = "berth.stream.v1.Stream";
constexpr int kMaxPorts = 120;  // of the protocol that numbers two channels for each in one byte

Result<SessionSpec> to_spec(const pb::PrepareRequest& request) {
  SessionSpec spec;
  switch (request.kind()) {
    case pb::SESSION_KIND_EXEC:
      spec.kind = SessionSpec::Kind::kExec;
      break;
    case pb::SESSION_KIND_ATTACH:
      spec.kind = SessionSpec::Kind::kAttach;
      break;
    case pb::SESSION_KIND_PORT_FORWARD:
      spec.kind = SessionSpec::Kind::kPortForward;
      break;
    default:
      return fail(Code::kInvalid, "a session of no known kind");
  }
  if (!request.shim_socket().starts_with('/')) return fail(Code::kInvalid, "shim_socket is no absolute path");
  spec.shim_socket = request.shim_socket();
  spec.container_id = request.container_id();
  spec.process_json = request.process_json();
  spec.channels = {request.stdin(), request.stdout(), request.stderr(), request.terminal()};
  spec.stdin_path = request.stdin_path();
  spec.close_stdin = request.close_stdin();
  spec.host_network = request.host_network();
  if (request.ports_size() > kMaxPorts) return fail(Code::kInvalid, "more than 120 ports");
  for (const std::uint32_t port : request.ports()) {
    if (port == 0 || port > 65535) return fail(Code::kInvalid, "port " + std::to_string(port));
    spec.ports.push_back(static_cast<std::uint16_t>(port));
  }
  return spec;
}

}  // namespace

void serve_control_api(ttrpc::Server& server, ControlHooks hooks) {
  const auto shared = std::make_shared<ControlHooks>(std::move(hooks));
  ttrpc::handle_now<Empty, pb::InfoResponse>(server, kService, "Info",
                                             [shared](const Empty&) -> Result<pb::InfoResponse> {
                                               const ControlInfo info = shared->info();
                                               pb::InfoResponse reply;
                                               reply.set_pid(static_cast<std::uint32_t>(::getpid()));
                                               reply.set_version(BERTH_VERSION);
                                               reply.set_settings(info.settings);
                                               reply.set_sessions(info.sessions);
                                               reply.set_base_url(info.base_url);
                                               return reply;
                                             });
  ttrpc::handle_now<pb::PrepareRequest, pb::PrepareResponse>(
      server, kService, "Prepare", [shared](const pb::PrepareRequest& request) -> Result<pb::PrepareResponse> {
        auto spec = to_spec(request);
        if (!spec) return fail(std::move(spec).error());
        auto url = shared->prepare(std::move(*spec));
        if (!url) return fail(std::move(url).error());
        pb::PrepareResponse reply;
        reply.set_url(std::move(*url));
        return reply;
      });
  ttrpc::handle_now<Empty, Empty>(server, kService, "Drain", [shared](const Empty&) -> Result<Empty> {
    shared->drain();
    return Empty();
  });
}

Result<> listen_control(ttrpc::Server& server, const std::string& path) {
  BERTH_ASSIGN(UniqueFd listener, os::unix_listen(path), "control socket");
  return server.listen(std::move(listener));
}

}  // namespace berth::stream
