#include <chrono>

#include "base/log.h"
#include "cri/exec_spec.h"
#include "cri/service_impl.h"

namespace berth::cri {

namespace {

namespace bs = ::berth::shim::v1;
using std::chrono::steady_clock;

constexpr std::int64_t kMaxTimeout = 365LL * 86400;
// From the shim's own timeout, which kills the process, to ours, which only gives up on the shim.
constexpr std::chrono::seconds kShimGrace{10};

Result<> fetch_large(ShimLink& link, const bs::ExecSyncResponse& reply, SteadyTime deadline,
                     pb::ExecSyncResponse& answer) {
  const auto token = reply.output_token();
  BERTH_ASSIGN(*answer.mutable_stdout(), link.read_exec_output(token, false, reply.stdout_size(), false, deadline),
               "output");
  BERTH_ASSIGN(*answer.mutable_stderr(), link.read_exec_output(token, true, reply.stderr_size(), true, deadline),
               "output");
  return {};
}

}  // namespace

Result<pb::ExecSyncResponse> ServiceImpl::exec_sync(const Call& call, const pb::ExecSyncRequest& request) {
  if (request.timeout() < 0) return fail(Code::kInvalid, "ExecSync: timeout below 0");
  if (request.cmd_size() == 0 || request.cmd(0).empty()) return fail(Code::kInvalid, "ExecSync: cmd is empty");
  BERTH_ASSIGN(const auto record, running_container(request.container_id()), "ExecSync");
  BERTH_ASSIGN(const auto link, link_of(record->sandbox_id), "ExecSync");
  bs::ExecSyncRequest exec;
  exec.set_container_id(record->id);
  BERTH_ASSIGN(*exec.mutable_process_json(), exec_process(*record, {request.cmd().begin(), request.cmd().end()}, false),
               "ExecSync");
  const auto timeout = std::chrono::seconds(std::min(request.timeout(), kMaxTimeout));
  exec.set_timeout_ms(static_cast<std::uint64_t>(std::chrono::milliseconds(timeout).count()));
  exec.set_output_limit_bytes(options_.exec_output_limit);
  auto deadline = call.deadline;
  if (timeout.count() > 0) deadline = std::min(deadline, steady_clock::now() + timeout + kShimGrace);
  auto reply = link->exec_sync(exec, deadline, call.stop);
  const std::string late = "exec timed out after " + std::to_string(request.timeout()) + " s";
  if (!reply) {
    const bool ours =
        reply.error().code() == Code::kTimeout && timeout.count() > 0 && steady_clock::now() < call.deadline;
    if (ours) return fail(Code::kTimeout, late + ", and the shim did not say so");
    return fail(std::move(reply).error().in("exec in " + record->id.substr(0, 13)));
  }
  if (reply->timed_out()) return fail(Code::kTimeout, late);
  pb::ExecSyncResponse answer;
  answer.set_exit_code(reply->exit_code());
  if (reply->output_token() != 0) {
    BERTH_TRY(fetch_large(*link, *reply, deadline, answer), "ExecSync");
  } else {
    answer.set_stdout(std::move(*reply->mutable_stdout()));
    answer.set_stderr(std::move(*reply->mutable_stderr()));
  }
  return answer;
}

Result<pb::ReopenContainerLogResponse> ServiceImpl::reopen_container_log(const Call& /*call*/,
                                                                         const pb::ReopenContainerLogRequest& request) {
  BERTH_ASSIGN(const auto record, running_container(request.container_id()), "ReopenContainerLog");
  if (record->log_path.empty()) return pb::ReopenContainerLogResponse();
  BERTH_ASSIGN(const auto link, link_of(record->sandbox_id), "ReopenContainerLog");
  BERTH_TRY(link->reopen_log(record->id), "ReopenContainerLog");
  return pb::ReopenContainerLogResponse();
}

}  // namespace berth::cri
