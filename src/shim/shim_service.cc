#include <unistd.h>

#include <memory>
#include <utility>

#include "berth/shim/v1/shim.pb.h"
#include "shim/services.h"
#include "ttrpc/typed.h"

// Berth's own service: what the daemon needs beyond containerd's task API.
namespace berth::shim {
namespace {

namespace pb = ::berth::shim::v1;
using Empty = ::berth::wkt::Empty;

constexpr const char* kService = "berth.shim.v1.Shim";

pb::ContainerState state_of(ProcessState state) {
  switch (state) {
    case ProcessState::kCreated:
      return pb::CONTAINER_STATE_CREATED;
    case ProcessState::kRunning:
      return pb::CONTAINER_STATE_RUNNING;
    case ProcessState::kPaused:
      return pb::CONTAINER_STATE_PAUSED;
    case ProcessState::kStopped:
      return pb::CONTAINER_STATE_STOPPED;
  }
  return pb::CONTAINER_STATE_UNKNOWN;
}

void describe(const Container& container, pb::ContainerInfo* info) {
  info->set_id(container.id);
  info->set_pid(static_cast<std::uint32_t>(container.init.pid));
  info->set_state(state_of(container.init.state));
  info->set_exit_code(container.init.exit_code);
  info->set_created_at_ns(container.created_at_ns);
  info->set_started_at_ns(container.started_at_ns);
  info->set_exited_at_ns(container.init.exited_at_ns);
  info->set_oom_killed(container.oom_killed);
  if (container.init.io != nullptr) info->set_log_bytes_dropped(container.init.io->log_bytes_dropped());
  info->set_reason(container.reason);
  info->set_message(container.message);
}

void exec_sync(ExecSync& execs, const pb::ExecSyncRequest& request,
               ttrpc::TypedResponder<pb::ExecSyncResponse> responder) {
  ExecSyncParams params;
  params.container_id = request.container_id();
  params.process_json = request.process_json();
  params.timeout_ms = request.timeout_ms();
  params.output_limit_bytes = request.output_limit_bytes();
  auto shared = std::make_shared<ttrpc::TypedResponder<pb::ExecSyncResponse>>(std::move(responder));
  execs.run(params, [shared](Result<ExecSyncResult> result) {
    if (!result) return shared->error(result.error());
    pb::ExecSyncResponse reply;
    reply.set_stdout(std::move(result->out));
    reply.set_stderr(std::move(result->err));
    reply.set_exit_code(result->exit_code);
    reply.set_timed_out(result->timed_out);
    reply.set_stdout_truncated(result->out_truncated);
    reply.set_stderr_truncated(result->err_truncated);
    reply.set_output_token(result->token);
    reply.set_stdout_size(result->out_size);
    reply.set_stderr_size(result->err_size);
    shared->ok(reply);
  });
}

void checkpoint(Checkpoints& checkpoints, const pb::CheckpointRequest& request,
                ttrpc::TypedResponder<Empty> responder) {
  CheckpointParams params;
  for (const auto& target : request.containers()) {
    params.targets.push_back({target.container_id(), target.folder(), target.upper()});
  }
  params.shm_file = request.shm_file();
  params.timeout_ms = request.timeout_ms();
  auto shared = std::make_shared<ttrpc::TypedResponder<Empty>>(std::move(responder));
  checkpoints.run(
      params,
      [shared](Result<> done) {
        if (!done) return shared->error(done.error());
        shared->ok(Empty());
      },
      [shared] { return shared->wanted(); });
}

void wait_event(Pod& pod, const pb::WaitEventRequest& request, ttrpc::TypedResponder<pb::WaitEventResponse> responder) {
  auto shared = std::make_shared<ttrpc::TypedResponder<pb::WaitEventResponse>>(std::move(responder));
  // A number that we have not given yet is of another shim's life: everything is news.
  const std::uint64_t after = request.after_seq() > pod.changes().now() ? 0 : request.after_seq();
  pod.changes().wait(after, request.timeout_ms(), [&pod, shared, after] {
    pb::WaitEventResponse reply;
    reply.set_seq(pod.changes().now());
    if (pod.init() != nullptr) reply.set_pod_end(pod.init()->end());
    for (const auto& [id, container] : pod.containers()) {
      if (container->changed_seq > after) describe(*container, reply.add_changed());
    }
    shared->ok(reply);
  });
}

void put_pressure(const os::Pressure& pressure, pb::Pressure& out) {
  const auto put = [](const os::PressureLine& line, pb::PressureLine& to) {
    to.set_total_us(line.total_us);
    to.set_avg10(line.avg10);
    to.set_avg60(line.avg60);
    to.set_avg300(line.avg300);
  };
  put(pressure.some, *out.mutable_some());
  put(pressure.full, *out.mutable_full());
}

Result<pb::ContainerStatsResponse> stats(Pod& pod, const pb::ContainerStatsRequest& request) {
  auto container = pod.find(request.container_id());
  if (!container) return fail(std::move(container).error());
  auto figures = (*container)->engine->stats();
  if (!figures) return fail(std::move(figures).error());
  pb::ContainerStatsResponse reply;
  reply.set_timestamp_ns(figures->timestamp_ns);
  reply.set_cpu_usage_ns(figures->cpu_usage_ns);
  reply.set_memory_usage_bytes(figures->memory_usage_bytes);
  reply.set_memory_working_set_bytes(figures->memory_working_set_bytes);
  reply.set_memory_rss_bytes(figures->memory_rss_bytes);
  reply.set_memory_page_faults(figures->memory_page_faults);
  reply.set_memory_major_page_faults(figures->memory_major_page_faults);
  reply.set_memory_limit_bytes(figures->memory_limit_bytes);
  reply.set_pids(figures->pids);
  reply.set_swap_usage_bytes(figures->swap_usage_bytes);
  if (figures->swap_limit_bytes) reply.set_swap_limit_bytes(*figures->swap_limit_bytes);
  if (figures->cpu_pressure) put_pressure(*figures->cpu_pressure, *reply.mutable_cpu_pressure());
  if (figures->memory_pressure) put_pressure(*figures->memory_pressure, *reply.mutable_memory_pressure());
  if (figures->io_pressure) put_pressure(*figures->io_pressure, *reply.mutable_io_pressure());
  const auto* io = (*container)->init.io.get();
  if (io != nullptr) reply.set_log_bytes_dropped(io->log_bytes_dropped());
  return reply;
}

Result<pb::PodInfoResponse> pod_info(Pod& pod) {
  pb::PodInfoResponse reply;
  reply.set_pid(static_cast<std::uint32_t>(::getpid()));
  reply.set_sandbox_id(pod.options().sandbox_id);
  reply.set_version(BERTH_VERSION);
  if (pod.init() != nullptr) reply.set_init_pid(static_cast<std::uint32_t>(pod.init()->pid()));
  for (const auto& [id, container] : pod.containers()) describe(*container, reply.add_containers());
  return reply;
}

}  // namespace

void serve_shim_api(ttrpc::Server& server, Pod& pod_ref, ExecSync& execs_ref, Checkpoints& checkpoints_ref) {
  Checkpoints* const checkpoints = &checkpoints_ref;
  ttrpc::handle_later<pb::CheckpointRequest, Empty>(
      server, kService, "Checkpoint",
      [checkpoints](const auto& r, auto responder) { checkpoint(*checkpoints, r, std::move(responder)); });
  Pod* const pod = &pod_ref;
  ExecSync* const execs = &execs_ref;
  ttrpc::handle_later<pb::ExecSyncRequest, pb::ExecSyncResponse>(
      server, kService, "ExecSync",
      [execs](const auto& r, auto responder) { exec_sync(*execs, r, std::move(responder)); });
  ttrpc::handle_now<pb::ReadExecOutputRequest, pb::ReadExecOutputResponse>(
      server, kService, "ReadExecOutput",
      [execs](const pb::ReadExecOutputRequest& r) -> Result<pb::ReadExecOutputResponse> {
        auto data = execs->read(r.token(), r.stderr_stream(), r.offset(), r.length(), r.release());
        if (!data) return fail(std::move(data).error());
        pb::ReadExecOutputResponse reply;
        reply.set_data(std::move(*data));
        return reply;
      });
  ttrpc::handle_now<pb::ReopenLogRequest, Empty>(server, kService, "ReopenLog",
                                                 [pod](const pb::ReopenLogRequest& r) -> Result<Empty> {
                                                   if (auto done = pod->reopen_log(r.container_id()); !done) {
                                                     return fail(std::move(done).error());
                                                   }
                                                   return Empty();
                                                 });
  ttrpc::handle_now<pb::WatchRequest, Empty>(server, kService, "Watch",
                                             [pod](const pb::WatchRequest& r) -> Result<Empty> {
                                               // The accessors are the generated ones, as in task_service.cc.
                                               auto done = pod->watch(r.container_id(), r.stdout(), r.stderr());
                                               if (!done) return fail(std::move(done).error());
                                               return Empty();
                                             });
  ttrpc::handle_now<Empty, pb::PodInfoResponse>(server, kService, "PodInfo",
                                                [pod](const Empty&) { return pod_info(*pod); });
  ttrpc::handle_later<pb::WaitEventRequest, pb::WaitEventResponse>(
      server, kService, "WaitEvent",
      [pod](const auto& r, auto responder) { wait_event(*pod, r, std::move(responder)); });
  ttrpc::handle_now<pb::ContainerStatsRequest, pb::ContainerStatsResponse>(
      server, kService, "ContainerStats", [pod](const auto& r) { return stats(*pod, r); });
}

}  // namespace berth::shim
