#include "cri/exec_spec.h"
#include "cri/service_impl.h"
#include "cri/shim_process.h"

// Exec, Attach and PortForward: what is asked for is looked up and checked here, and served by berth-stream.
namespace berth::cri {

namespace {

namespace sv = ::berth::stream::v1;

/// What the kubelet's own server demands of Exec and Attach.
template <class Request>
Result<> check_streams(const Request& request) {
  // `stdin` and its like are macros of the C library: the accessors are the generated ones all the same.
  if (!request.stdin() && !request.stdout() && !request.stderr()) {
    return fail(Code::kInvalid, "one of stdin, stdout and stderr must be set");
  }
  if (request.tty() && request.stderr()) {
    return fail(Code::kInvalid, "tty and stderr exclude each other: a terminal has one stream of output");
  }
  return {};
}

template <class Request>
void set_streams(const Request& request, sv::PrepareRequest& session) {
  session.set_stdin(request.stdin());
  session.set_stdout(request.stdout());
  session.set_stderr(request.stderr());
  session.set_terminal(request.tty());
}

}  // namespace

Result<ContainerPtr> ServiceImpl::running_container(const std::string& id) const {
  BERTH_ASSIGN(auto record, shown_container(id), "container");
  if (record->phase != ContainerPhase::kRunning) {
    return fail(Code::kPrecondition, "container " + record->id.substr(0, 13) + " is " +
                                         std::string(phase_name(record->phase)) + ", not running");
  }
  return record;
}

Result<std::string> ServiceImpl::session_url(const Call& call, const sv::PrepareRequest& session) {
  auto url = stream_server_->prepare(session);
  if (url || url.error().code() != Code::kUnavailable) return url;
  // Whoever asks meanwhile waits for the same start.
  auto started = operations_.run("start berth-stream", "start berth-stream", call,
                                 [this](Operation& operation) -> Result<std::string> {
                                   const Stage stage(operation, "start berth-stream", options_.stream.program);
                                   BERTH_TRY(stream_server_->ensure_running(), "start berth-stream");
                                   return std::string();
                                 });
  if (!started) return started;
  return stream_server_->prepare(session);
}

Result<pb::ExecResponse> ServiceImpl::exec(const Call& call, const pb::ExecRequest& request) {
  BERTH_TRY(check_streams(request), "Exec");
  BERTH_ASSIGN(const auto record, running_container(request.container_id()), "Exec");
  sv::PrepareRequest session;
  session.set_kind(sv::SESSION_KIND_EXEC);
  session.set_shim_socket(shim_socket(dir_of(record->sandbox_id)));
  session.set_container_id(record->id);
  BERTH_ASSIGN(*session.mutable_process_json(),
               exec_process(*record, {request.cmd().begin(), request.cmd().end()}, request.tty()), "Exec");
  set_streams(request, session);
  pb::ExecResponse reply;
  BERTH_ASSIGN(*reply.mutable_url(), session_url(call, session), "Exec");
  return reply;
}

Result<pb::AttachResponse> ServiceImpl::attach(const Call& call, const pb::AttachRequest& request) {
  BERTH_TRY(check_streams(request), "Attach");
  BERTH_ASSIGN(const auto record, running_container(request.container_id()), "Attach");
  sv::PrepareRequest session;
  session.set_kind(sv::SESSION_KIND_ATTACH);
  session.set_shim_socket(shim_socket(dir_of(record->sandbox_id)));
  session.set_container_id(record->id);
  set_streams(request, session);
  if (record->config.stdin()) session.set_stdin_path(dir_of(*record) + "/stdin");
  // A terminal's input does not end with who types there.
  session.set_close_stdin(record->config.stdin_once() && !record->config.tty());
  pb::AttachResponse reply;
  BERTH_ASSIGN(*reply.mutable_url(), session_url(call, session), "Attach");
  return reply;
}

Result<pb::PortForwardResponse> ServiceImpl::port_forward(const Call& call, const pb::PortForwardRequest& request) {
  BERTH_ASSIGN(const auto record, shown_sandbox(request.pod_sandbox_id()), "PortForward");
  if (record->state != SandboxState::kReady) {
    return fail(Code::kPrecondition, "PortForward: sandbox " + record->id.substr(0, 13) + " is not ready");
  }
  sv::PrepareRequest session;
  session.set_kind(sv::SESSION_KIND_PORT_FORWARD);
  session.set_shim_socket(shim_socket(dir_of(record->id)));
  session.set_host_network(record->host_network);
  for (const std::int32_t port : request.port()) {
    if (port < 1 || port > 65535) return fail(Code::kInvalid, "PortForward: port " + std::to_string(port));
    session.add_ports(static_cast<std::uint32_t>(port));
  }
  pb::PortForwardResponse reply;
  BERTH_ASSIGN(*reply.mutable_url(), session_url(call, session), "PortForward");
  return reply;
}

}  // namespace berth::cri
