#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "base/failpoint.h"
#include "containerd/runtime/task/v2/shim.pb.h"
#include "shim/metrics.h"
#include "shim/services.h"
#include "ttrpc/typed.h"

// containerd's task API: messages in, Pod's calls, messages out. v3 has the messages of v2 under another package, so
// the bytes are the same and one set of handlers serves both.
namespace berth::shim {
namespace {

namespace pb = ::containerd::task::v2;
using Empty = ::berth::wkt::Empty;
using Status = ::containerd::v1::types::Status;

constexpr const char* kServices[] = {"containerd.task.v2.Task", "containerd.task.v3.Task"};

void set_time(berth::wkt::Timestamp* time, std::int64_t ns) {
  constexpr std::int64_t kNsPerSecond = 1'000'000'000;
  time->set_seconds(ns / kNsPerSecond);
  time->set_nanos(static_cast<std::int32_t>(ns % kNsPerSecond));
}

Status status_of(ProcessState state) {
  switch (state) {
    case ProcessState::kCreated:
      return Status::CREATED;
    case ProcessState::kRunning:
      return Status::RUNNING;
    case ProcessState::kPaused:
      return Status::PAUSED;
    case ProcessState::kStopped:
      return Status::STOPPED;
  }
  return Status::UNKNOWN;
}

template <class Request>
StdioPaths stdio_of(const Request& request) {
  // `stdin` and its like are macros of the C library: the accessors are the generated ones all the same.
  return {request.terminal(), request.stdin(), request.stdout(), request.stderr()};
}

template <class Request, class Reply, class Handler>
void on(ttrpc::Server& server, const char* method, const Handler& handler) {
  for (const char* service : kServices) ttrpc::handle_now<Request, Reply>(server, service, method, handler);
}

Result<pb::CreateTaskResponse> create(Pod& pod, TaskEvents& events, const pb::CreateTaskRequest& request) {
  CreateParams params;
  params.id = request.id();
  params.bundle = request.bundle();
  params.stdio = stdio_of(request);
  params.checkpoint = request.checkpoint();
  for (const auto& mount : request.rootfs()) {
    if (!mount.target().empty()) return fail(Code::kUnsupported, "rootfs mount with a target");
    params.rootfs.push_back({mount.type(), mount.source(), {mount.options().begin(), mount.options().end()}});
  }
  auto pid = pod.create(std::move(params));
  if (!pid) return fail(std::move(pid).error());
  events.created(request, *pid);
  pb::CreateTaskResponse reply;
  reply.set_pid(static_cast<std::uint32_t>(*pid));
  return reply;
}

Result<pb::StateResponse> state(Pod& pod, const pb::StateRequest& request) {
  auto container = pod.find(request.id());
  if (!container) return fail(std::move(container).error());
  auto found = pod.find_process(request.id(), request.exec_id());
  if (!found) return fail(std::move(found).error());
  const TaskProcess& process = **found;
  pb::StateResponse reply;
  reply.set_id(request.id());
  reply.set_bundle((*container)->bundle);
  reply.set_pid(static_cast<std::uint32_t>(process.pid));
  reply.set_status(status_of(process.state));
  reply.set_stdin(process.stdio.in);
  reply.set_stdout(process.stdio.out);
  reply.set_stderr(process.stdio.err);
  reply.set_terminal(process.stdio.terminal);
  reply.set_exec_id(request.exec_id());
  if (process.state == ProcessState::kStopped) {
    reply.set_exit_status(process.exit_code);
    set_time(reply.mutable_exited_at(), process.exited_at_ns);
  }
  return reply;
}

Result<pb::DeleteResponse> remove(Pod& pod, TaskEvents& events, const pb::DeleteRequest& request) {
  auto removed = pod.remove(request.id(), request.exec_id());
  if (!removed) return fail(std::move(removed).error());
  // Of an exec containerd hears nothing more.
  if (request.exec_id().empty()) events.removed(request.id(), *removed);
  pb::DeleteResponse reply;
  reply.set_pid(static_cast<std::uint32_t>(removed->pid));
  reply.set_exit_status(removed->exit_code);
  set_time(reply.mutable_exited_at(), removed->exited_at_ns);
  return reply;
}

Result<pb::PidsResponse> pids(Pod& pod, const pb::PidsRequest& request) {
  auto container = pod.find(request.id());
  if (!container) return fail(std::move(container).error());
  auto list = (*container)->engine->pids();
  if (!list) return fail(std::move(list).error());
  pb::PidsResponse reply;
  for (const pid_t pid : *list) reply.add_processes()->set_pid(static_cast<std::uint32_t>(pid));
  return reply;
}

Result<pb::StatsResponse> stats(Pod& pod, const pb::StatsRequest& request) {
  auto container = pod.find(request.id());
  if (!container) return fail(std::move(container).error());
  auto figures = (*container)->engine->stats();
  if (!figures) return fail(std::move(figures).error());
  pb::StatsResponse reply;
  reply.mutable_stats()->set_type_url(kMetricsType);
  reply.mutable_stats()->set_value(cgroup_metrics(*figures));
  return reply;
}

Result<pb::ConnectResponse> connect(Pod& pod, const pb::ConnectRequest& request) {
  pb::ConnectResponse reply;
  reply.set_shim_pid(static_cast<std::uint32_t>(::getpid()));
  // containerd asks before it has created anything, too.
  if (auto container = pod.find(request.id())) reply.set_task_pid(static_cast<std::uint32_t>((*container)->init.pid));
  reply.set_version(BERTH_VERSION);
  return reply;
}

Result<Empty> empty(Result<> result) {
  if (!result) return fail(std::move(result).error());
  return Empty();
}

void wait(Pod& pod, const pb::WaitRequest& request, ttrpc::TypedResponder<pb::WaitResponse> responder) {
  auto shared = std::make_shared<ttrpc::TypedResponder<pb::WaitResponse>>(std::move(responder));
  auto parked = pod.wait(request.id(), request.exec_id(), [shared](const TaskProcess& process) {
    pb::WaitResponse reply;
    reply.set_exit_status(process.exit_code);
    set_time(reply.mutable_exited_at(), process.exited_at_ns);
    shared->ok(reply);
  });
  if (!parked) shared->error(parked.error());
}

Result<pb::StartResponse> start(Pod& pod, TaskEvents& events, const pb::StartRequest& request) {
  auto pid = pod.start(request.id(), request.exec_id());
  if (!pid) return fail(std::move(pid).error());
  events.started(request.id(), request.exec_id(), *pid);
  pb::StartResponse reply;
  reply.set_pid(static_cast<std::uint32_t>(*pid));
  return reply;
}

Result<Empty> add_exec(Pod& pod, TaskEvents& events, const pb::ExecProcessRequest& request) {
  auto done = pod.add_exec(request.id(), request.exec_id(), request.spec().value(), stdio_of(request));
  if (done) events.exec_added(request.id(), request.exec_id());
  return empty(std::move(done));
}

Result<Empty> set_paused(Pod& pod, TaskEvents& events, const std::string& id, bool paused) {
  auto done = paused ? pod.pause(id) : pod.resume(id);
  if (!done) return fail(std::move(done).error());
  paused ? events.paused(id) : events.resumed(id);
  return Empty();
}

void serve_life(ttrpc::Server& server, Pod* pod, TaskEvents* events) {
  on<pb::CreateTaskRequest, pb::CreateTaskResponse>(server, "Create",
                                                    [pod, events](const auto& r) { return create(*pod, *events, r); });
  on<pb::StartRequest, pb::StartResponse>(server, "Start",
                                          [pod, events](const auto& r) { return start(*pod, *events, r); });
  on<pb::DeleteRequest, pb::DeleteResponse>(server, "Delete",
                                            [pod, events](const auto& r) { return remove(*pod, *events, r); });
  on<pb::ExecProcessRequest, Empty>(server, "Exec",
                                    [pod, events](const auto& r) { return add_exec(*pod, *events, r); });
  on<pb::KillRequest, Empty>(server, "Kill", [pod](const pb::KillRequest& r) {
    return empty(pod->kill(r.id(), r.exec_id(), static_cast<int>(r.signal()), r.all()));
  });
  on<pb::PauseRequest, Empty>(server, "Pause",
                              [pod, events](const auto& r) { return set_paused(*pod, *events, r.id(), true); });
  on<pb::ResumeRequest, Empty>(server, "Resume",
                               [pod, events](const auto& r) { return set_paused(*pod, *events, r.id(), false); });
  on<pb::UpdateTaskRequest, Empty>(server, "Update",
                                   [pod](const auto& r) { return empty(pod->update(r.id(), r.resources().value())); });
  on<pb::ResizePtyRequest, Empty>(server, "ResizePty", [pod](const auto& r) {
    return empty(pod->resize(r.id(), r.exec_id(), r.width(), r.height()));
  });
  on<pb::CloseIORequest, Empty>(server, "CloseIO", [pod](const pb::CloseIORequest& r) {
    return empty(r.stdin() ? pod->close_stdin(r.id(), r.exec_id()) : Result<>());
  });
  on<pb::CheckpointTaskRequest, Empty>(server, "Checkpoint", [](const auto&) -> Result<Empty> {
    return fail(Code::kUnsupported, "checkpoints are made by berth.shim.v1.Shim's Checkpoint alone");
  });
}

}  // namespace

void serve_task_api(ttrpc::Server& server, Pod& pod_ref, TaskEvents& events, std::function<void()> shut_down) {
  Pod* const pod = &pod_ref;
  serve_life(server, pod, &events);
  on<pb::StateRequest, pb::StateResponse>(server, "State", [pod](const auto& r) { return state(*pod, r); });
  on<pb::PidsRequest, pb::PidsResponse>(server, "Pids", [pod](const auto& r) { return pids(*pod, r); });
  on<pb::StatsRequest, pb::StatsResponse>(server, "Stats", [pod](const auto& r) { return stats(*pod, r); });
  on<pb::ConnectRequest, pb::ConnectResponse>(server, "Connect", [pod](const auto& r) { return connect(*pod, r); });
  for (const char* service : kServices) {
    ttrpc::handle_later<pb::WaitRequest, pb::WaitResponse>(
        server, service, "Wait", [pod](const auto& r, auto responder) { wait(*pod, r, std::move(responder)); });
    ttrpc::handle_later<pb::ShutdownRequest, Empty>(
        server, service, "Shutdown",
        [pod, shut_down](const pb::ShutdownRequest& r, ttrpc::TypedResponder<Empty> responder) {
          // containerd asks after each task; the shim stays for the others.
          const bool ends = r.now() || pod->containers().empty();
          if (r.now()) pod->remove_all();
          crashpoint("shim.shutdown.done");
          responder.ok(Empty());
          if (ends) shut_down();
        });
  }
}

}  // namespace berth::shim
