#include "shim/task_events.h"

#include "containerd/events/task.pb.h"
#include "containerd/runtime/task/v2/shim.pb.h"

namespace berth::shim {
namespace {

namespace ev = ::containerd::events;

void set_time(berth::wkt::Timestamp* time, std::int64_t ns) {
  constexpr std::int64_t kNsPerSecond = 1'000'000'000;
  time->set_seconds(ns / kNsPerSecond);
  time->set_nanos(static_cast<std::int32_t>(ns % kNsPerSecond));
}

}  // namespace

void TaskEvents::created(const ::containerd::task::v2::CreateTaskRequest& request, pid_t pid) {
  ev::TaskCreate event;
  event.set_container_id(request.id());
  event.set_bundle(request.bundle());
  for (const auto& mount : request.rootfs()) *event.add_rootfs() = mount;
  event.mutable_io()->set_stdin(request.stdin());
  event.mutable_io()->set_stdout(request.stdout());
  event.mutable_io()->set_stderr(request.stderr());
  event.mutable_io()->set_terminal(request.terminal());
  event.set_pid(static_cast<std::uint32_t>(pid));
  publisher_.publish("/tasks/create", event);
}

void TaskEvents::started(const std::string& id, const std::string& exec_id, pid_t pid) {
  if (exec_id.empty()) {
    ev::TaskStart event;
    event.set_container_id(id);
    event.set_pid(static_cast<std::uint32_t>(pid));
    return publisher_.publish("/tasks/start", event);
  }
  ev::TaskExecStarted event;
  event.set_container_id(id);
  event.set_exec_id(exec_id);
  event.set_pid(static_cast<std::uint32_t>(pid));
  publisher_.publish("/tasks/exec-started", event);
}

void TaskEvents::exec_added(const std::string& id, const std::string& exec_id) {
  ev::TaskExecAdded event;
  event.set_container_id(id);
  event.set_exec_id(exec_id);
  publisher_.publish("/tasks/exec-added", event);
}

void TaskEvents::exited(const std::string& id, const std::string& exec_id, const TaskProcess& process) {
  ev::TaskExit event;
  event.set_container_id(id);
  event.set_id(exec_id.empty() ? id : exec_id);
  event.set_pid(static_cast<std::uint32_t>(process.pid));
  event.set_exit_status(process.exit_code);
  set_time(event.mutable_exited_at(), process.exited_at_ns);
  publisher_.publish("/tasks/exit", event);
}

void TaskEvents::out_of_memory(const std::string& id) {
  ev::TaskOOM event;
  event.set_container_id(id);
  publisher_.publish("/tasks/oom", event);
}

void TaskEvents::removed(const std::string& id, const Pod::Removed& removed) {
  ev::TaskDelete event;
  event.set_container_id(id);
  event.set_pid(static_cast<std::uint32_t>(removed.pid));
  event.set_exit_status(removed.exit_code);
  set_time(event.mutable_exited_at(), removed.exited_at_ns);
  publisher_.publish("/tasks/delete", event);
}

void TaskEvents::paused(const std::string& id) {
  ev::TaskPaused event;
  event.set_container_id(id);
  publisher_.publish("/tasks/paused", event);
}

void TaskEvents::resumed(const std::string& id) {
  ev::TaskResumed event;
  event.set_container_id(id);
  publisher_.publish("/tasks/resumed", event);
}

}  // namespace berth::shim
